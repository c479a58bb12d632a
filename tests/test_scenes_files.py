"""A folder of drawn scenes: every file in its layout, the same bytes however it was drawn, answers that are true."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from featx.data import read_captions, read_questions
from featx.errors import StoreError, UsageError
from featx.scenes import write_scenes
from tests.scenes_oracle import is_true, read_things, solve

TRAIN, VAL, SEED = 16, 5, 11


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder, drawn by two processes."""
    out = tmp_path_factory.mktemp("drawn") / "scenes"
    write_scenes(out, TRAIN, VAL, SEED, workers=2)
    return out


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def digests(folder: Path) -> dict[str, str]:
    """File -> hash of its bytes; what only locks is left out."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for p in files}


def test_one_process_writes_the_same_bytes_as_two(folder: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "alone", TRAIN, VAL, SEED, workers=1)
    assert digests(tmp_path / "alone") == digests(folder)


def test_a_picture_does_not_depend_on_how_many_others_there_are(folder: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "few", 2, 1, SEED, ["de"], workers=1)
    for name in ("train/scene_000000000002.jpg", "val/scene_000000100001.jpg"):
        assert (tmp_path / "few" / name).read_bytes() == (folder / name).read_bytes()
    few, many = (load(f / "vqa/questions_train_de.json")["questions"] for f in (tmp_path / "few", folder))
    assert few == many[: len(few)]


def test_another_seed_draws_other_pictures(folder: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "other", 1, 1, SEED + 1, workers=1)
    name = "train/scene_000000000001.jpg"
    assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


def test_a_killed_run_is_completed_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    code = f"from featx.scenes import write_scenes; write_scenes({str(out)!r}, {TRAIN}, {VAL}, {SEED}, workers=2)"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(out.glob("train/*.jpg"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (out / "train" / ".scene_000000000019.jpg.77.tmp").write_bytes(b"half of it")
    drawn = {path: path.stat().st_mtime_ns for path in out.glob("train/*.jpg")}
    assert 5 <= len(drawn) < TRAIN
    assert not (out / "README.md").exists()
    write_scenes(out, TRAIN, VAL, SEED, workers=2)
    assert digests(out) == digests(folder)
    assert all(path.stat().st_mtime_ns == before for path, before in drawn.items()), "finished pictures are kept"


def test_a_whole_folder_is_left_as_it_is_and_a_lost_file_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    write_scenes(out, 2, 1, SEED, ["en"], workers=1)
    before, times = digests(out), {p: p.stat().st_mtime_ns for p in out.rglob("*.jpg")}
    write_scenes(out, 2, 1, SEED, ["en"], workers=1)
    (out / "train/scene_000000000002.jpg").unlink()
    (out / "gqa/val_balanced_questions.json").unlink()
    write_scenes(out, 2, 1, SEED, ["en"], workers=1)
    assert digests(out) == before
    kept = out / "train/scene_000000000001.jpg"
    assert kept.stat().st_mtime_ns == times[kept]


def test_a_folder_of_other_scenes_is_refused_and_every_difference_named(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"train 16 \(asked for: 17\), seed 11 \(asked for: 12\)"):
        write_scenes(folder, TRAIN + 1, VAL, SEED + 1)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match=r"does not hold scenes"):
        write_scenes(tmp_path, 1, 1, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_plan_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scenes.json").write_text("{")
    with pytest.raises(UsageError, match=r"scenes\.json cannot be understood"):
        write_scenes(tmp_path, 1, 1, 0)


def test_two_runs_do_not_draw_into_one_folder_at_a_time(tmp_path: Path) -> None:
    from featx.scenes.plan import Plan, claimed

    with claimed(tmp_path / "s", Plan(1, 1, 0)), pytest.raises(StoreError, match="is being written by process"):
        write_scenes(tmp_path / "s", 1, 1, 0)


@pytest.mark.parametrize(
    ("train", "val", "seed", "languages", "workers", "message"),
    [
        (-1, 1, 0, ["en"], 1, "train is -1 pictures"),
        (1, 100_001, 0, ["en"], 1, "val is 100001 pictures"),
        (0, 0, 0, ["en"], 1, "no pictures"),
        (1, 1, -3, ["en"], 1, "the seed is -3"),
        (1, 1, 0, ["en", "it"], 1, "unknown language 'it'"),
        (1, 1, 0, ["en", "en"], 1, "languages 'en,en'"),
        (1, 1, 0, [], 1, "languages ''"),
        (1, 1, 0, ["en"], 0, "0 workers"),
    ],
)  # fmt: skip
def test_wrong_numbers_are_refused_before_anything_is_written(
    tmp_path: Path, train: int, val: int, seed: int, languages: list[str], workers: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        write_scenes(tmp_path / "out", train, val, seed, languages, workers=workers)
    assert not (tmp_path / "out").exists()


def test_no_half_written_file_stays(folder: Path) -> None:
    assert not list(folder.rglob("*.tmp"))


def test_every_picture_has_the_size_that_the_files_say(folder: Path) -> None:
    for split, count in (("train", TRAIN), ("val", VAL)):
        images = load(folder / f"annotations/instances_{split}.json")["images"]
        assert len(images) == count == len(list((folder / split).glob("*.jpg")))
        for image in images:
            pixels = cv2.imread(str(folder / split / image["file_name"]))
            assert pixels.shape == (image["height"], image["width"], 3)
            assert min(pixels.shape[:2]) >= 240


def test_instances_have_the_layout_of_visual_genome_in_coco_form(folder: Path) -> None:
    for split in ("train", "val"):
        content = load(folder / f"annotations/instances_{split}.json")
        assert [c["id"] for c in content["categories"]] == list(range(1, 17))
        assert [c["id"] for c in content["attCategories"]] == list(range(13))
        names = [c["name"] for c in content["attCategories"]]
        images = {image["id"]: image for image in content["images"]}
        assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"])
        for box in content["annotations"]:
            x, y, w, h = box["bbox"]
            image = images[box["image_id"]]
            assert 0 <= x < x + w <= image["width"]
            assert 0 <= y < y + h <= image["height"]
            assert 0 < box["area"] <= w * h
            assert box["iscrowd"] == 0
            colour, pattern, size = box["attribute_ids"]
            assert names.index("plain") > colour >= 0
            assert names[pattern] in ("plain", "striped", "dotted")
            assert names[size] in ("small", "large")


def test_ids_of_pictures_and_questions_are_unique_over_both_splits(folder: Path) -> None:
    pictures = [i["id"] for s in ("train", "val") for i in load(folder / f"annotations/instances_{s}.json")["images"]]
    assert len(set(pictures)) == TRAIN + VAL
    questions = [
        q["question_id"] for s in ("train", "val") for q in load(folder / f"vqa/questions_{s}_en.json")["questions"]
    ]
    assert len(set(questions)) == len(questions)


def test_every_answer_is_what_an_independent_reader_finds_in_the_boxes(folder: Path) -> None:
    for split in ("train", "val"):
        things = read_things(load(folder / f"annotations/instances_{split}.json"))
        answers = load(folder / f"vqa/annotations_{split}_en.json")["annotations"]
        truth = {a["question_id"]: a["multiple_choice_answer"] for a in answers}
        for q in load(folder / f"vqa/questions_{split}_en.json")["questions"]:
            assert solve(q["question"], things[q["image_id"]]) == truth[q["question_id"]], q


def test_vqa_files_have_the_official_layout_and_agree_over_languages(folder: Path) -> None:
    annotations = load(folder / "vqa/annotations_val_en.json")["annotations"]
    for language in ("en", "fr", "de", "es"):
        questions = load(folder / f"vqa/questions_val_{language}.json")
        assert {"info", "task_type", "data_type", "data_subtype", "questions"} <= set(questions)
        assert [q["question_id"] for q in questions["questions"]] == [a["question_id"] for a in annotations]
        assert load(folder / f"vqa/annotations_val_{language}.json")["annotations"] == annotations
    for a in annotations:
        assert a["question_type"] in ("existence", "counting", "attribute", "object", "spatial", "comparison")
        assert a["answer_type"] in ("yes/no", "number", "other")
        assert [x["answer_id"] for x in a["answers"]] == list(range(1, 11))
        assert Counter(x["answer"] for x in a["answers"]).most_common(1)[0][0] == a["multiple_choice_answer"]
        assert {x["answer_confidence"] for x in a["answers"]} <= {"yes", "maybe", "no"}


def test_gqa_files_have_the_layout_of_gqa_and_full_sentences(folder: Path) -> None:
    content = load(folder / "gqa/train_balanced_questions.json")
    vqa = {str(q["question_id"]): q["question"] for q in load(folder / "vqa/questions_train_en.json")["questions"]}
    for number, q in content.items():
        assert q["question"] == vqa[number]
        assert (folder / "train" / f"{q['imageId']}.jpg").is_file()
        assert q["types"]["structural"] in ("verify", "query", "choose", "logical", "compare")
        assert q["types"]["semantic"] in ("obj", "attr", "cat", "rel", "global")
        assert q["isBalanced"] is True
        assert q["fullAnswer"].endswith(".")
        words = q["fullAnswer"].lower().replace(",", "").replace(".", "").split()
        assert q["answer"] in words, q
    assert not any(q["question"].startswith("How many") for q in content.values()), "GQA does not count"


def test_lxmert_files_have_the_layout_and_the_scores_of_lxmert(folder: Path) -> None:
    content = load(folder / "lxmert/val.json")
    truth = {a["question_id"]: a for a in load(folder / "vqa/annotations_val_en.json")["annotations"]}
    assert len(content) == len(truth)
    scores = {0.3, 0.6, 0.9, 1}  # of one, two, three and at least four of ten annotators
    for q in content:
        assert set(q) == {"answer_type", "img_id", "label", "question_id", "question_type", "sent"}
        assert q["label"][truth[q["question_id"]]["multiple_choice_answer"]] == 1
        assert set(q["label"].values()) <= scores
        assert (folder / "val" / f"{q['img_id']}.jpg").is_file()


def test_every_english_caption_is_true_of_the_boxes(folder: Path) -> None:
    for split in ("train", "val"):
        things = read_things(load(folder / f"annotations/instances_{split}.json"))
        for a in load(folder / f"captions/captions_{split}_en.json")["annotations"]:
            assert is_true(a["caption"], things[a["image_id"]]), a


@pytest.mark.parametrize("language", ["en", "fr", "de", "es"])
def test_there_are_two_captions_in_each_language(folder: Path, language: str) -> None:
    content = load(folder / f"captions/captions_val_{language}.json")
    count = Counter(a["image_id"] for a in content["annotations"])
    assert set(count) == {image["id"] for image in content["images"]}
    assert set(count.values()) == {2}
    for a in content["annotations"]:
        assert a["caption"][0].isupper()
        assert a["caption"].endswith(".")
        assert "  " not in a["caption"]


def test_the_readers_of_featx_understand_every_file(folder: Path) -> None:
    vqa = read_questions(
        {
            "questions": str(folder / "vqa/questions_val_fr.json"),
            "annotations": str(folder / "vqa/annotations_val_fr.json"),
            "image_name": "scene_{image_id:012d}",
            "language": "fr",
        }
    )
    gqa = read_questions({"questions": str(folder / "gqa/val_balanced_questions.json")})
    lxmert = read_questions({"questions": str(folder / "lxmert/val.json")})
    captions = read_captions({"captions": str(folder / "captions/captions_val_de.json"), "language": "de"})
    keys = {path.stem for path in (folder / "val").glob("*.jpg")}
    for questions in (vqa, gqa, lxmert):
        assert {q.picture for q in questions} == keys
    assert {c.picture for c in captions} == keys
    labels = {q.id: q.scores for q in lxmert}
    assert all(max(q.scores or {0: 0}, key=lambda a: (q.scores or {})[a]) in (labels[q.id] or {}) for q in vqa)


def test_the_card_says_how_to_make_it_again_and_counts_right(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert f"featx scenes OUT --train {TRAIN} --val {VAL} --seed {SEED} --languages en,fr,de,es" in card
    boxes = len(load(folder / "annotations/instances_train.json")["annotations"])
    assert f"| train | {TRAIN} | {boxes} |" in card
    families = Counter(
        a["question_type"]
        for s in ("train", "val")
        for a in load(folder / f"vqa/annotations_{s}_en.json")["annotations"]
    )
    for family, count in families.items():
        assert f"| {family} | {count} |" in card


def test_only_the_languages_that_were_asked_for_are_written(tmp_path: Path) -> None:
    write_scenes(tmp_path / "s", 1, 0, 0, ["es"], workers=1)
    assert sorted(p.name for p in (tmp_path / "s/vqa").glob("*train*")) == [
        "annotations_train_es.json", "questions_train_es.json",
    ]  # fmt: skip
    assert np.all([p.name.endswith("_es.json") for p in (tmp_path / "s/captions").iterdir()])
