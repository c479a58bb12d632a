"""Which pictures there are: sources, order, keys, collisions, parts. All files are made here."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import pickle
import tarfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featx.errors import PictureRefused, UsageError
from featx.images import KEY_RULES, Listing, Source, list_pictures, part


def touch(root: Path, *names: str) -> Path:
    """Files whose content is their name: listing never decodes."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def keys(listing: list[Source]) -> list[str]:
    return [source.key for source in listing]


def refusal(*args: object, **options: object) -> UsageError:
    with pytest.raises(UsageError) as error:
        list_pictures(*args, **options)  # type: ignore[arg-type]
    assert error.value.hint
    return error.value


# --- folders, files, globs ------------------------------------------------------------------------------


def test_a_folder_is_walked_deeply_in_order_of_path_and_keys_are_paths_without_the_last_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.b.c.JPG", "sub/deep/x.png", "sub/a.jpeg", "sub-1.webp")
    listing = list_pictures(str(tmp_path))
    assert keys(listing) == ["a.b.c", "b", "sub-1", "sub/a", "sub/deep/x"]
    assert [s.ordinal for s in listing] == [0, 1, 2, 3, 4]
    assert listing[4].location == str(tmp_path / "sub/deep/x.png")
    assert listing[4].read() == b"sub/deep/x.png"


def test_files_left_out_of_a_folder_are_counted_by_reason(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "notes.txt", "list.json", ".hidden.jpg", ".git/b.jpg", "._a.jpg")
    listing = list_pictures(str(tmp_path))
    assert isinstance(listing, Listing)
    assert keys(listing) == ["a"]
    assert listing.skipped == {"not a picture suffix": 2, "hidden": 3}


def test_a_file_named_itself_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path, "photo", ".hidden.jpg", "x[1].jpg")
    for name, key in (("photo", "photo"), (".hidden.jpg", ".hidden"), ("x[1].jpg", "x[1]")):
        assert keys(list_pictures(str(tmp_path / name))) == [key]


def test_one_file_has_the_same_key_named_itself_in_a_glob_and_in_its_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    one, glob, folder = str(tmp_path / "a.jpg"), str(tmp_path / "*.jpg"), str(tmp_path)
    assert keys(list_pictures(one)) == ["a"]
    assert keys(list_pictures(glob)) == keys(list_pictures(folder)) == ["a", "b"]
    assert keys(list_pictures([one, str(tmp_path / "b.jpg")])) == ["a", "b"]


def test_globs_match_names_and_two_stars_match_any_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a1.jpg", "a2.jpg", "b1.jpg", "s/a3.jpg", "s/t/a4.jpg", "s/t/note.txt")
    found = {
        "a*.jpg": ["a1", "a2"],
        "a?.jpg": ["a1", "a2"],
        "[ab]1.jpg": ["a1", "b1"],
        "a[!1].jpg": ["a2"],
        "**/*.jpg": ["a1", "a2", "b1", "s/a3", "s/t/a4"],
        "*/a*.jpg": ["s/a3"],
        "s/**": ["a3", "t/a4"],
        "**/t/*": ["s/t/a4"],
        "{b1,a2}.jpg": ["b1", "a2"],
        "a{1..2}.jpg": ["a1", "a2"],
    }
    for pattern, expected in found.items():
        assert keys(list_pictures(str(tmp_path / pattern))) == expected, pattern


def test_relative_specs_are_seen_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "p/a.jpg", "p/q/b.jpg")
    monkeypatch.chdir(tmp_path / "p")
    for spec in (".", "**/*.jpg", "../p", "./q/.."):
        assert keys(list_pictures(spec)) == ["a", "q/b"], spec
    assert keys(list_pictures("a.jpg")) == ["a"]


def test_a_root_decides_what_paths_are_relative_to(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.jpg", "val/a.jpg")
    specs = [str(tmp_path / "train"), str(tmp_path / "val/*.jpg")]
    assert keys(list_pictures(specs, root=str(tmp_path))) == ["train/a", "val/a"]
    assert keys(list_pictures(str(tmp_path / "val/a.jpg"), root=str(tmp_path))) == ["val/a"]
    assert "outside the root" in refusal(str(tmp_path / "train"), root=str(tmp_path / "val")).message


def test_a_link_back_to_its_own_folder_is_left_out_and_other_links_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "data", "a.jpg", "sub/b.jpg")
    touch(tmp_path / "elsewhere", "c.jpg")
    (tmp_path / "data/sub/loop").symlink_to(tmp_path / "data")
    (tmp_path / "data/out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "data/link.jpg").symlink_to(tmp_path / "data/a.jpg")
    listing = list_pictures(str(tmp_path / "data"))
    assert keys(listing) == ["a", "link", "out/c", "sub/b"]
    assert listing.skipped == {"link back to its own folder": 1, "broken link or special file": 1}


def test_a_folder_without_pictures_is_an_error_that_says_what_was_seen(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt", "b.txt", ".c.jpg")
    error = refusal(str(tmp_path))
    assert str(tmp_path) in error.message
    assert "3 files seen" in error.message
    assert "2 not a picture suffix" in error.message
    assert ".jpeg" in error.hint
    assert "no picture found" in refusal([]).message
    assert "no picture found" in refusal(str(tmp_path / "*.jpg")).message


def test_a_spec_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert "does not exist" in refusal(str(tmp_path / "nothing")).message
    assert "not a folder" in refusal(str(tmp_path / "nothing/*.jpg")).message
    assert "does not exist" in refusal("x" * 5000).message
    assert "unpack" in refusal(str(touch(tmp_path, "a.tar.gz") / "a.tar.gz")).hint


# --- lists -----------------------------------------------------------------------------------------------


def test_a_list_on_stdin_keeps_its_order_and_ignores_blank_lines(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.jpg", "with space.jpg")
    lines = io.StringIO(f"{tmp_path}/b.jpg\n\n{tmp_path}/with space.jpg\r\n{tmp_path}/a.jpg")
    assert keys(list_pictures("-", stdin=lines)) == ["b", "with space", "a"]


def test_lines_are_looked_for_below_the_root_first_and_then_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "photos/s/a.jpg", "photos/b.jpg")
    monkeypatch.chdir(tmp_path)
    assert keys(list_pictures("-", root="photos", stdin=["s/a.jpg", "photos/b.jpg", f"{tmp_path}/photos/b.jpg"])) == [
        "s/a",
        "b",
    ]
    assert "outside the root" in refusal("-", root="photos/s", stdin=["../b.jpg"]).message


def test_the_same_file_listed_twice_is_one_picture(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    lines = [f"{tmp_path}/a.jpg", f"{tmp_path}/./a.jpg", f"{tmp_path}/b.jpg", f"{tmp_path}/a.jpg"]
    assert keys(list_pictures("-", stdin=lines)) == ["a", "b"]
    assert keys(list_pictures([str(tmp_path), str(tmp_path / "*.jpg")])) == ["a", "b"]


def test_a_listed_file_that_is_absent_is_refused_when_read_but_a_wrong_root_is_found_at_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    listing = list_pictures("-", root=str(tmp_path), stdin=["a.jpg", "gone.jpg"])
    with pytest.raises(PictureRefused, match=r"gone\.jpg does not exist") as error:
        listing[1].read()
    assert error.value.reason == "missing"
    message = refusal("-", root=str(tmp_path), stdin=["x/a.jpg", "x/b.jpg"]).message
    assert "none of the 2 pictures" in message
    assert "x/a.jpg" in message


def coco(tmp_path: Path, images: object, name: str = "list.json") -> str:
    path = tmp_path / name
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": []}))
    return str(path)


def test_a_coco_list_keeps_its_order_and_gives_ids(tmp_path: Path) -> None:
    names = ["COCO_val2014_000000000042.jpg", "COCO_val2014_000000000007.jpg"]
    touch(tmp_path / "val2014", *names)
    spec = coco(tmp_path, [{"id": 42, "file_name": names[0]}, {"id": 7, "file_name": names[1]}])
    root = str(tmp_path / "val2014")
    assert keys(list_pictures(spec, root=root)) == [n.removesuffix(".jpg") for n in names]
    assert keys(list_pictures(spec, root=root, key_rule="coco-id")) == ["42", "7"]
    assert keys(list_pictures(spec, root=root, key_rule="id")) == ["42", "7"]
    assert list_pictures(spec, root=root)[1].read() == names[1].encode()


def test_a_coco_list_needs_a_root_and_cannot_leave_it(tmp_path: Path) -> None:
    touch(tmp_path, "secret.jpg", "root/a.jpg")
    assert "--root" in refusal(coco(tmp_path, [{"id": 1, "file_name": "a.jpg"}])).hint
    for name in (
        "../secret.jpg",
        str(tmp_path / "secret.jpg"),
        "a/../../secret.jpg",
        "C:/secret.jpg",
        "..\\secret.jpg",
    ):
        spec = coco(tmp_path, [{"id": 1, "file_name": name}])
        message = refusal(spec, root=str(tmp_path / "root")).message
        assert "could leave its folder" in message or "absolute" in message


def vqa(tmp_path: Path, subset: str | None, ids: list[object]) -> str:
    path = tmp_path / "questions.json"
    questions = [{"image_id": i, "question": "?", "question_id": n} for n, i in enumerate(ids)]
    path.write_text(json.dumps({"data_subtype": subset, "questions": questions}))
    return str(path)


@pytest.mark.parametrize(
    ("subset", "name"),
    [
        ("train2014", "COCO_train2014_000000000009.jpg"),
        ("val2014", "COCO_val2014_000000000009.jpg"),
        ("test2015", "COCO_test2015_000000000009.jpg"),
        ("test-dev2015", "COCO_test2015_000000000009.jpg"),
    ],
)
def test_vqa_questions_give_each_picture_once_by_the_name_of_their_subset(
    tmp_path: Path, subset: str, name: str
) -> None:
    touch(tmp_path, name, name.replace("09.jpg", "11.jpg"))
    listing = list_pictures(vqa(tmp_path, subset, [9, 11, 9, 9, 11]), root=str(tmp_path), key_rule="id")
    assert keys(listing) == ["9", "11"]
    assert listing[0].read() == name.encode()


def test_vqa_questions_of_an_unknown_subset_need_a_template_and_nothing_is_guessed(tmp_path: Path) -> None:
    touch(tmp_path, "pic-5.png")
    spec = vqa(tmp_path, "abstract_v002_val2015", [5])
    error = refusal(spec, root=str(tmp_path))
    assert "abstract_v002_val2015" in error.message
    assert "--image-name" in error.hint
    assert keys(list_pictures(spec, root=str(tmp_path), image_name="pic-{image_id}.png")) == ["pic-5"]
    for template in ("{other}.jpg", "fixed.jpg", "{image_id:x!}.jpg", "{image_id.no}.jpg", "{"):
        assert "template" in refusal(spec, root=str(tmp_path), image_name=template).message


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1, 2]", '{"annotations": []}', '{"images": [{"id": 1}]}', '{"images": [3]}', '{"questions": [{}]}',
     '{"questions": [{"image_id": true}], "data_subtype": "val2014"}', "[" * 100_000],
)  # fmt: skip
def test_a_json_file_of_another_shape_is_an_error_that_says_what_was_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert "x.json" in refusal(str(tmp_path / "x.json"), root=str(tmp_path)).message


# --- tars ------------------------------------------------------------------------------------------------


def make_tar(path: Path, members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_pictures_of_a_tar_are_listed_in_its_order_and_read_by_offset(tmp_path: Path, form: int) -> None:
    long = "d" * 90 + "/" + "n" * 60 + ".jpg"
    members = {"z/b.jpg": b"bee" * 400, "./a.0.png": b"ay", "z/b.json": b"{}", long: b"long", "z/.c.jpg": b"-"}
    path = make_tar(tmp_path / "s.tar", members, form)
    listing = list_pictures(str(path))
    assert keys(listing) == ["z/b", "a.0", long.removesuffix(".jpg")]
    assert [s.read() for s in listing] == [b"bee" * 400, b"ay", b"long"]
    assert listing[1].location == f"{path}:a.0.png"
    assert listing.skipped == {"not a picture suffix": 2}
    data = path.read_bytes()
    for source in listing:
        assert source.blob.span is not None
        start, length = source.blob.span
        assert data[start : start + length] == source.read()


def test_shards_are_named_by_a_brace_range_or_a_glob(tmp_path: Path) -> None:
    for n in range(12):
        make_tar(tmp_path / f"a-{n:03}.tar", {f"{n:05}.jpg": b"%d" % n, f"{n:05}.cls": b"1"})
    expected = [f"{n:05}" for n in range(12)]
    assert keys(list_pictures(str(tmp_path / "a-{000..011}.tar"))) == expected
    assert keys(list_pictures(str(tmp_path / "a-*.tar"))) == expected
    assert keys(list_pictures(str(tmp_path / "a-{010,002}.tar"))) == ["00010", "00002"]
    assert "a-012.tar" in refusal(str(tmp_path / "a-{010..012}.tar")).message


def test_shards_that_repeat_member_names_need_the_shard_rule_and_the_message_says_so(tmp_path: Path) -> None:
    for n in range(2):
        make_tar(tmp_path / f"s{n}.tar", {"0.jpg": b"%d" % n, "1.jpg": b"x%d" % n})
    spec = str(tmp_path / "s{0..1}.tar")
    assert "--key-rule shard" in refusal(spec).hint
    assert keys(list_pictures(spec, key_rule="shard")) == ["s0/0", "s0/1", "s1/0", "s1/1"]


def test_a_tar_that_breaks_off_or_is_damaged_or_compressed_is_an_error_before_any_work(tmp_path: Path) -> None:
    whole = make_tar(tmp_path / "w.tar", {"a.jpg": b"a" * 2000, "b.jpg": b"b" * 2000}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:4000])
    (tmp_path / "header.tar").write_bytes(whole[:2560] + b"\1" * 512 + whole[3072:])
    (tmp_path / "text.tar").write_bytes(b"no tar at all" * 100)
    (tmp_path / "empty.tar").write_bytes(b"")
    import gzip

    (tmp_path / "zipped.tar").write_bytes(gzip.compress(whole))
    for name in ("cut", "header", "text", "empty", "zipped"):
        assert f"{name}.tar" in refusal(str(tmp_path / f"{name}.tar")).message


def test_members_of_a_tar_cannot_leave_it(tmp_path: Path) -> None:
    for name in ("../x.jpg", "/abs/x.jpg", "a/../../x.jpg", "a//b.jpg", "line\nbreak.jpg"):
        path = make_tar(tmp_path / "evil.tar", {name: b"x"})
        with pytest.raises(UsageError):
            list_pictures(str(path))


def test_links_in_a_tar_are_counted_and_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "l.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"x{kind.decode()}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("real.jpg")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"r"))
    listing = list_pictures(str(tmp_path / "l.tar"))
    assert keys(listing) == ["real"]
    assert listing.skipped == {"link or special file in a tar": 3}


def test_a_tar_that_changed_since_it_was_listed_is_noticed_on_reading(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "t.tar", {"a.jpg": b"a" * 5000})
    source = list_pictures(str(path))[0]
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(PictureRefused, match="changed since it was listed") as error:
        source.read()
    assert error.value.reason == "unreadable"


def test_a_tar_takes_no_root(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "t.tar", {"a.jpg": b"a"})
    assert "--root" in refusal(str(path), root=str(tmp_path)).hint


# --- URLs ------------------------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    files = fsspec.filesystem("memory")
    for name in ("/pics/b.jpg", "/pics/sub/a.png", "/pics/note.txt", "/pics/.h.jpg"):
        files.pipe_file(name, name.encode())
    yield files
    files.rm("/pics", recursive=True)


def test_a_folder_a_glob_and_a_file_can_be_urls(memory: fsspec.AbstractFileSystem) -> None:
    listing = list_pictures("memory://pics")
    assert keys(listing) == ["b", "sub/a"]
    assert listing.skipped == {"not a picture suffix": 1, "hidden": 1}
    assert listing[1].location == "memory:///pics/sub/a.png"
    assert listing[1].read() == b"/pics/sub/a.png"
    assert keys(list_pictures("memory://pics/*.jpg")) == ["b"]
    assert keys(list_pictures("memory://pics/**/*.png")) == ["sub/a"]
    assert keys(list_pictures("memory://pics/sub/a.png")) == ["a"]
    assert keys(list_pictures("memory://pics/sub/a.png", root="memory://pics")) == ["sub/a"]
    assert keys(list_pictures("memory://pics/sub", root="memory://pics")) == ["sub/a"]
    assert "outside the root" in refusal("memory://pics/b.jpg", root="memory://pics/sub").message


def test_lists_of_urls_and_json_lists_with_a_url_as_root_work(
    tmp_path: Path, memory: fsspec.AbstractFileSystem
) -> None:
    lines = ["memory://pics/sub/a.png", "memory://pics/b.jpg"]
    assert keys(list_pictures("-", stdin=lines)) == ["a", "b"]
    assert keys(list_pictures("-", stdin=["sub/a.png"], root="memory://pics")) == ["sub/a"]
    spec = coco(tmp_path, [{"id": 3, "file_name": "sub/a.png"}])
    listing = list_pictures(spec, root="memory://pics")
    assert keys(listing) == ["sub/a"]
    assert listing[0].read() == b"/pics/sub/a.png"
    memory.pipe_file("/pics/list.json", Path(spec).read_bytes())
    assert keys(list_pictures("memory://pics/list.json", root="memory://pics")) == ["sub/a"]


def test_a_tar_behind_a_url_is_read_by_offset(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    path = make_tar(tmp_path / "t.tar", {"x/a.jpg": b"first", "x/b.jpg": b"second"})
    memory.pipe_file("/pics/t-0.tar", path.read_bytes())
    for spec in ("memory://pics/t-0.tar", "memory://pics/t-{0..0}.tar", "memory://pics/*.tar", path.as_uri()):
        listing = list_pictures(spec)
        assert keys(listing) == ["x/a", "x/b"]
        assert [s.read() for s in listing] == [b"first", b"second"]


def test_file_urls_name_local_files(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "s/b.jpg")
    listing = list_pictures(tmp_path.as_uri())
    assert keys(listing) == ["a", "s/b"]
    assert listing[1].read() == b"s/b.jpg"


def test_a_url_that_is_not_there_or_of_an_unknown_kind_is_an_error(memory: fsspec.AbstractFileSystem) -> None:
    assert "does not exist" in refusal("memory://pics/none.jpg").message
    assert "cannot be opened" in refusal("nonsense://x/y.jpg").message
    assert "chained" in refusal("zip://a.jpg::memory://pics/x.zip").message
    source = list_pictures("memory://pics/b.jpg")[0]
    memory.rm_file("/pics/b.jpg")
    with pytest.raises(PictureRefused) as error:
        source.read()
    assert error.value.reason == "missing"
    memory.pipe_file("/pics/b.jpg", b"")


# --- keys ------------------------------------------------------------------------------------------------


def test_each_key_rule_gives_the_documented_key(tmp_path: Path) -> None:
    touch(tmp_path, "a.b/COCO_train2014_000000132417.x.jpg", "a.b/COCO_train2014_000000132417.jpg")
    spec, data = str(tmp_path / "a.b/COCO_train2014_000000132417.jpg"), b"a.b/COCO_train2014_000000132417.jpg"
    expected = {
        "path": "a.b/COCO_train2014_000000132417",
        "shard": "a.b/COCO_train2014_000000132417",
        "name": "COCO_train2014_000000132417.jpg",
        "stem": "COCO_train2014_000000132417",
        "coco-id": "132417",
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert set(expected) | {"id"} == set(KEY_RULES)
    for rule, key in expected.items():
        assert keys(list_pictures(spec, root=str(tmp_path), key_rule=rule)) == [key], rule
    both = list_pictures(str(tmp_path), key_rule="stem")
    assert keys(both) == ["COCO_train2014_000000132417", "COCO_train2014_000000132417.x"]


@pytest.mark.parametrize(
    ("name", "key"),
    [("000000000000.jpg", "0"), ("n123.jpg", "123"), ("2017_000012.jpg", "12"), ("train-10171-0-img0.png", "0")],
)
def test_the_coco_id_is_the_integer_at_the_end_of_the_name_without_zeros(tmp_path: Path, name: str, key: str) -> None:
    assert keys(list_pictures(str(touch(tmp_path, name)), key_rule="coco-id")) == [key]


def test_a_rule_that_does_not_fit_is_an_error_that_names_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "cat.jpg")
    for rule in ("coco-id", "id"):
        error = refusal(str(tmp_path), key_rule=rule)
        assert "cat.jpg" in error.message
        assert "stem" in error.hint
    assert "sha256" in refusal(str(tmp_path), key_rule="sha1").hint
    assert "gone.jpg" in refusal("-", root=str(tmp_path), stdin=["cat.jpg", "gone.jpg"], key_rule="sha256").message


def test_two_suffixes_of_one_stem_collide_before_any_work_and_the_hint_separates_them(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png", "b.jpg")
    error = refusal(str(tmp_path))
    assert "'a'" in error.message
    assert "a.jpg" in error.message
    assert "a.png" in error.message
    assert "--key-rule name" in error.hint
    assert keys(list_pictures(str(tmp_path), key_rule="name")) == ["a.jpg", "a.png", "b.jpg"]


def test_only_the_first_few_collisions_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n}.{suffix}" for n in range(9) for suffix in ("jpg", "png")))
    message = refusal(str(tmp_path)).message
    assert "9 keys" in message
    assert "(and 6 more)" in message
    assert len(message) < 1000


def test_equal_files_collide_under_sha256(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"same")
    (tmp_path / "b.jpg").write_bytes(b"same")
    assert "--key-rule path" in refusal(str(tmp_path), key_rule="sha256").hint


def test_keys_are_nfc_and_twins_that_differ_only_in_normal_form_collide(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert composed != decomposed
    touch(tmp_path, f"{decomposed}.jpg")
    assert keys(list_pictures(str(tmp_path))) == [composed]
    assert list_pictures(str(tmp_path))[0].read() == f"{decomposed}.jpg".encode()
    touch(tmp_path, f"{composed}.jpg")
    if len(os.listdir(tmp_path)) == 2:  # noqa: PTH208  (some file systems see one name)
        assert "--root" in refusal(str(tmp_path)).hint


@pytest.mark.parametrize(
    "name", ["line\nbreak.jpg", "tab\t.jpg", "bell\x07.jpg", "del\x7f.jpg", "\u2028.jpg", "a\\b.jpg"]
)
def test_names_with_control_characters_line_breaks_or_backslashes_are_refused(tmp_path: Path, name: str) -> None:
    error = refusal(str(touch(tmp_path, name)))
    assert "sha256" in error.hint
    assert "\n" not in error.message
    assert keys(list_pictures(str(tmp_path), key_rule="sha256")) == [hashlib.sha256(name.encode()).hexdigest()]


def test_a_name_that_is_not_utf_8_is_refused_and_can_still_be_used_by_content(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    try:
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(b"x")
    except OSError:
        pytest.skip("this file system only takes UTF-8 names")
    assert "not UTF-8" in refusal(str(tmp_path)).message
    assert keys(list_pictures(str(tmp_path), key_rule="sha256")) == [hashlib.sha256(b"x").hexdigest()]


def test_a_path_of_600_bytes_is_a_key_like_any_other(tmp_path: Path) -> None:
    name = "/".join("d" * 99 for _ in range(6)) + "/x.jpg"
    touch(tmp_path, name)
    assert keys(list_pictures(str(tmp_path))) == [name.removesuffix(".jpg")]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=4))
def test_no_listed_name_whatever_its_characters_reaches_outside_the_root(names: list[str]) -> None:
    from featx.images.keys import check_key

    key = "/".join(names)
    try:
        check_key(key, "somewhere")
    except UsageError:
        return
    root = Path("/root-folder")
    joined = Path(os.path.normpath(root / key))
    assert joined.is_relative_to(root)
    assert joined != root
    assert len(key.splitlines()) == 1


# --- sources and parts -----------------------------------------------------------------------------------


def test_sources_and_listings_survive_pickling(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.txt")
    make_tar(tmp_path / "t.tar", {"m.jpg": b"member"})
    listing = list_pictures([str(tmp_path), str(tmp_path / "t.tar")])
    copy = pickle.loads(pickle.dumps(listing))
    assert copy == listing
    assert copy.skipped == listing.skipped
    assert [s.read() for s in copy] == [b"a.jpg", b"b.jpg", b"member"]


def test_a_folder_a_pipe_and_a_file_of_gigabytes_are_refused_instead_of_read(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    source = list_pictures(str(tmp_path / "a.jpg"))[0]
    (tmp_path / "a.jpg").unlink()
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(PictureRefused, match="not a regular file"):
        source.read()
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(PictureRefused) as error:
        source.read()
    assert error.value.reason == "unreadable"
    (tmp_path / "a.jpg").rmdir()
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate((1 << 30) + 1)  # sparse
    with pytest.raises(PictureRefused) as error:
        source.read()
    assert error.value.reason == "too-large"


@given(st.integers(0, 200), st.integers(1, 40))
def test_parts_are_disjoint_complete_ordered_and_equal_within_one(size: int, n: int) -> None:
    from featx.images.source import Blob

    sources = [Source(str(i), str(i), i, Blob(str(i))) for i in range(size)]
    parts = [part(sources, k, n) for k in range(1, n + 1)]
    assert list(itertools.chain(*parts)) == sources
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("k", "n"), [(0, 4), (5, 4), (-1, 4), (1, 0)])
def test_a_part_that_does_not_exist_is_an_error(k: int, n: int) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        part([], k, n)
