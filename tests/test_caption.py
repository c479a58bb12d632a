"""Captions from a store, of photos and of whole splits: the pipeline and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessorPil

import featx
from featx.captioner import Captioner
from featx.checkpoint.place import locate
from featx.checkpoint.tower import tower_hash
from featx.cli import main
from featx.clip_mbart.consumer import ClipVisionMbart, save
from featx.clip_mbart.network import caption_logits, encoded
from featx.data.names import numbers
from featx.errors import UsageError
from featx.store import open_store
from tests import mbart_toys as toys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An exported model whose wants are those of the toy store."""
    words = toys.vocabulary()
    network, config = toys.network(len(words))
    place = tmp_path / "model"
    place.mkdir()
    about = {"languages": ["fr", "en"], "max_length": 24,
             "wants": {"dim": toys.DIM, "profile": "profile-1", "weights": "weights-1"}}  # fmt: skip
    save(place, network, config, words, about)
    return place


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return toys.make_store(tmp_path / "store")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A whole checkpoint, with a vision tower of its own for pictures of 16 x 16."""
    place, words = tmp_path / "whole", toys.vocabulary()
    place.mkdir()
    network, config = toys.network(len(words))
    tower = toys.tower()
    config |= {"clip_vision_config": tower.config.to_dict()}
    save(place, network, config, words, {})
    (place / "featx.json").unlink()
    whole = load_file(place / "model.safetensors")
    whole |= {f"model.encoder.vision_model.{n}": t.contiguous() for n, t in tower.state_dict().items()}
    save_file(whole, place / "model.safetensors")
    processor().save_pretrained(place)
    return place


def processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    place = tmp_path / "photos"
    place.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (20 + 3 * i, 30 - 2 * i, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"photo_{i:03d}.png")
    return place


def test_from_the_cache_equals_end_to_end(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    """Logits of a float32 store's records are those of pixels through transformers' tower; a photo's caption is too."""
    featx.extract(str(photos), str(tmp_path / "grid"), extractor="clip", weights=str(checkpoint), dtype="float32",
                  key_rule="stem")  # fmt: skip
    model, tower = ClipVisionMbart.load(locate(checkpoint)), toys.tower()
    keys = [f"photo_{i:03d}" for i in range(4)]
    with open_store(tmp_path / "grid") as store:
        assert store.manifest.provenance["weights"]["sha256"] == model.wants.weights == tower_hash(tower.state_dict())
        records = store.get_batch(keys).clone()
    pictures = [Image.open(photos / f"{key}.png") for key in keys]
    pixels = processor()(pictures, return_tensors="pt")["pixel_values"]
    ids = model.tokens.encode(["A red ball is here."] * 4, ["en"] * 4).ids
    with torch.no_grad():
        cached = caption_logits(model.network, encoded(model.network, records.features), records.mask, ids)
        whole = encoded(model.network, tower(pixels).last_hidden_state)
        direct = caption_logits(model.network, whole, None, ids)
    assert (cached - direct).abs().max() < 1e-5
    assert (direct - direct.mean(dim=0)).abs().max() > 0.1, "the picture does not matter"
    captioner = Captioner(checkpoint, tmp_path / "grid")
    live = Captioner(checkpoint)
    for key in keys[:2]:
        assert live(photos / f"{key}.png", "fr", 2, 12) == captioner(key, "fr", 2, 12)


def test_features_of_another_tower_are_refused_unless_they_are_allowed(checkpoint: Path, store: Path) -> None:
    with pytest.raises(UsageError, match="weights: found weights-1, expected"):
        Captioner(checkpoint, store)
    allowed = Captioner(checkpoint, store, allow_mismatch=True)
    assert len(allowed.sight.notes) == 1
    assert isinstance(allowed("p0"), str)


def test_the_pipeline_takes_one_or_several_and_either_name_of_a_language(folder: Path, store: Path) -> None:
    captioner = Captioner(folder, store, batch=2)
    single = captioner("p3", "fr", 1, 10)
    assert captioner(["p3", "p4", "p3"], "fr_XX", num_beams=1, max_length=10)[::2] == [single, single]
    assert captioner(iter(["p3"]), "fr", 1, 10) == [single]
    with open_store(store) as reader:
        assert captioner(reader["p3"], "fr", 1, 10) == single
    assert dict(captioner.split(["p5", "p3", "p1"], "fr", 1, 10))["p3"] == single
    assert list(captioner.languages) == ["fr", "en"]
    assert captioner({"image": "p3"}, "fr", 1, 10) == single
    assert captioner([{"image": "p3"}], "fr", 1, 10) == [single]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"language": "de"}, "does not write 'de'"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"max_length": 2}, "max_length is 2"),
        ({"max_length": 5000}, r"max_length is 5000, the model .* has room for \d+"),
        ({"language": None}, "does not write None"),
    ],
)
def test_what_cannot_be_written_is_said(folder: Path, store: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Captioner(folder, store)("p0", **given)


def test_a_whole_split_needs_a_store(folder: Path) -> None:
    with pytest.raises(UsageError, match="pictures of a store"):
        list(Captioner(folder).split(["p0"]))


def test_results_are_scored_against_all_that_is_said_about_a_picture(
    folder: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the store to BLEU by two commands; sacrebleu's own figure."""
    import sacrebleu

    first = toys.write_captions(tmp_path)["en"]
    more = json.loads(first.read_text())
    more["annotations"] = [{"id": 100 + i, "image_id": i, "caption": "Something else."} for i in (2, 5)]
    (tmp_path / "more.json").write_text(json.dumps(more))
    out = tmp_path / "results.json"
    said = [toys.TEXTS["en"][i % 3] if i % 2 else "A red ball is somewhere there." for i in range(9)]
    out.write_text(json.dumps([{"image_id": i, "caption": text} for i, text in enumerate(said)]))
    assert main(["evaluate", str(out), str(first), str(tmp_path / "more.json"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    second = ["Something else." if i in (2, 5) else None for i in range(9)]
    streams = [[toys.TEXTS["en"][i % 3] for i in range(9)], second]
    for order in (1, 2, 3, 4):
        metric = sacrebleu.BLEU(max_ngram_order=order, smooth_method="none")
        assert found[f"bleu{order}"] == pytest.approx(metric.corpus_score(said, streams).score / 100)
    assert (found["metric"], found["pictures"], found["unanswered"]) == ("bleu", 9, 0)
    out.write_text(json.dumps([{"image_id": 4, "caption": said[4]}]))
    assert main(["evaluate", str(out), str(first)]) == 2
    assert "no answer to 8 of 9" in capsys.readouterr().err
    assert main(["evaluate", str(out), str(first), "--partial"]) == 0
    assert "BLEU-4" in (shown := capsys.readouterr().out)
    assert "not described, not scored  8" in shown


# --- the command ----------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    code = main(["caption", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command_describes_a_picture_of_a_store(
    folder: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = ("--model", folder, "--beams", 1, "--max-length", 10)
    wanted = {name: Captioner(folder, store)("p2", name, 1, 10) for name in ("en", "fr")}
    assert run(capsys, store, "p2", *how) == (0, f"{wanted['en']}\n", "")
    code, out, _ = run(capsys, store, "p2", "--language", "en,fr", *how)
    assert (code, out) == (0, f"en  {wanted['en']}\nfr  {wanted['fr']}\n")
    code, out, _ = run(capsys, store, "p2", "--language", "fr,en", "--json", *how)
    assert json.loads(out) == {"picture": "p2", "captions": wanted}


def test_the_command_describes_a_photo(checkpoint: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = photos / "photo_001.png"
    code, out, err = run(capsys, photo, "--model", checkpoint, "--language", "fr", "--beams", 2, "--max-length", 9)
    assert (code, err) == (0, "")
    assert out == f"{Captioner(checkpoint)(photo, 'fr', 2, 9)}\n"


def test_all_pictures_become_results_as_coco_takes_them(
    folder: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = ("--all", "--model", folder, "--beams", 1, "--max-length", 10, "--language", "fr")
    captioner, out = Captioner(folder, store), tmp_path / "results.json"
    code, said, err = run(capsys, store, *how, "-o", out)
    assert (code, said, err) == (0, f"{out}\n", "")
    rows = json.loads(out.read_text())
    assert [row["image_id"] for row in rows] == list(range(9))
    assert rows[4] == {"image_id": 4, "caption": captioner("p4", "fr", 1, 10)}
    file = tmp_path / "captions.json"
    images = [{"id": 70, "file_name": "p7.jpg"}, {"id": 20, "file_name": "p2.jpg"}]
    file.write_text(json.dumps({"images": images, "annotations": []}))
    code, said, _ = run(capsys, store, *how, "-o", out, "--captions", file, "--json")
    assert json.loads(said) == {"pictures": 2, "language": "fr", "out": str(out)}
    wanted = [{"image_id": n, "caption": captioner(f"p{n // 10}", "fr", 1, 10)} for n in (70, 20)]
    assert json.loads(out.read_text()) == wanted
    code, _, err = run(capsys, store, *how, "-o", out, "--captions", file, "--image-name", "scene_{image_id:03d}")
    assert code == 2
    assert "the store lacks 2 of 2 pictures: scene_070, scene_020; its keys look like p0" in err
    assert json.loads(out.read_text()) == wanted


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{store}"], "no key of the store"),
        (["{store}", "p0", "p1"], "p1 is one word too many"),
        (["nowhere.jpg"], "no store and no photo nowhere.jpg"),
        (["{store}", "p0", "--language", "de"], "does not write 'de'"),
        (["{store}", "p0", "-o", "x.json"], "--out is for --all"),
        (["{store}", "--all"], "--all needs one store, one language and a file"),
        (["{store}", "--all", "-o", "x.json", "--language", "en,fr"], "--all needs one store, one language"),
        (["{store}", "--all", "-o", "x.json", "--image-name", "{image_id}"], "--image-name is for --captions"),
        (["{store}", "nobody"], "nobody"),
    ],
)
def test_a_mistake_is_named(
    folder: Path, store: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    given = [word.replace("{store}", str(store)) for word in words]
    code, _, err = run(capsys, *given, "--model", folder)
    assert code == 2
    assert message in err


def test_ids_are_the_numbers_that_all_keys_end_in() -> None:
    assert numbers(["COCO_val2014_000000000042", "b7"]) == {"COCO_val2014_000000000042": 42, "b7": 7}
    assert numbers(["a1", "b1"]) == {"a1": "a1", "b1": "b1"}
    assert numbers(["a1", "b"]) == {"a1": "a1", "b": "b"}
