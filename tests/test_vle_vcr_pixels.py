"""VCR from pixels: a whole checkpoint with its tower, photos that are cropped, and objects in drawn scenes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import featx
from featx.cli import main
from featx.data.vcr import read_vcr
from featx.grids import blind
from featx.vle.heads import Q2A, QA2R
from featx.vle.vcr import choice_logits, padded
from featx.vle.vcr_text import Pieces, named
from tests import vle_toys as toys
from tests.test_vle_consumer import processor, tower, write

SIZES = ((20, 30), (30, 20), (16, 16))  # height, width


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both heads, ten token types, a tower for pictures of 16 x 16 in four patches; as published ones are."""
    place = write(tmp_path_factory.mktemp("vcr") / "whole", (Q2A, QA2R))
    (place / "featx.json").unlink()
    seen, whole = tower(), load_file(place / "model.safetensors")
    whole |= {f"vle.vision_model.vision_model.{n}": t.contiguous() for n, t in seen.state_dict().items()}
    torch.manual_seed(5)
    types = whole["vle.token_type_embeddings.weight"]
    whole["vle.token_type_embeddings.weight"] = torch.cat([types, 0.5 * torch.randn(8, types.shape[1])])
    save_file(whole, place / "model.safetensors")
    stated = json.loads((place / "config.json").read_text())
    more = {"vision_config": seen.config.to_dict(), "num_token_types": 10}
    (place / "config.json").write_text(json.dumps({**stated, **more}))
    processor().save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of three shapes, with metadata, and a file of items without labels."""
    root = tmp_path_factory.mktemp("pictures")
    lines = []
    for i, (height, width) in enumerate(SIZES):
        pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"p{i}.png")
        boxes = [[0, 0, width / 2 - 1, height / 2 - 1, 1], [width / 2 + 1, 1, width, height, 1]]
        (root / f"p{i}.json").write_text(json.dumps({"boxes": boxes, "width": width, "height": height}))
        lines.append({"img_fn": f"p{i}.png", "metadata_fn": f"p{i}.json", "annot_id": f"a{i}",
                      "objects": ["ball", "cube"], "question": ["what", "is", [1], "?"],
                      "answer_choices": [[[1], "is", "red"], [[0, 1]], ["a", "cube"], ["blue", [0]]],
                      "rationale_choices": [[[0], "is", "there"], ["a", "ball"], [[1]], [[1, 0]]]})  # fmt: skip
    (root / "items.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


def test_from_the_cache_equals_end_to_end(checkpoint: Path, root: Path, tmp_path: Path) -> None:
    """Logits by a float32 store are those of photos, and those of transformers' tower with rows worked out by hand."""
    featx.extract(str(root), str(tmp_path / "grid"), extractor="clip", weights=str(checkpoint), dtype="float32",
                  key_rule="stem")  # fmt: skip
    items = read_vcr({"vcr": str(root / "items.jsonl"), "pictures": str(root)})
    lines = [json.loads(line) for line in (root / "items.jsonl").read_text().splitlines()]
    cached, live = (
        featx.Chooser(checkpoint, tmp_path / "grid"),
        featx.Chooser(checkpoint, extractor={"dtype": "float32"}),
    )
    seen = tower()
    for what, answer in (("answer", None), ("rationale", 3)):
        stored = torch.tensor([one["score"] for one in cached(root, lines, what, answer)])
        shown = torch.tensor([one["score"] for one in live(root, lines, what, answer)])
        assert torch.allclose(stored, shown, atol=1e-5)
    model: Any = cached.model
    pixels = processor()([Image.open(root / f"p{i}.png") for i in range(3)], return_tensors="pt")["pixel_values"]
    # Of a picture of 20 x 30 the square in the middle is seen, x from 5 to 25: the left object is in the first patch,
    # the right one in both of the right half; of 30 x 20 it is y from 5 to 25. Of a square all is seen.
    patches = {0: [1], 1: [2, 4]}
    reading = model.reading(Q2A)
    texts = [[Pieces([reading.first], [-1]) + one + Pieces([reading.sep], [-1]) for one in reading.answers(item)]
             for item in items]  # fmt: skip
    shares = torch.zeros(2, 5)
    for one, cells in patches.items():
        shares[one, cells] = 1 / len(cells)
    with torch.no_grad():
        features = seen(pixels).last_hidden_state
        orders = [[named(one.objects) for one in own] for own in texts]
        batch = {**padded(texts, orders, [shares] * 3, 5), "features": features,
                 "image_mask": torch.ones(3, 5, dtype=torch.bool)}  # fmt: skip
        want = choice_logits(model.network, Q2A, batch)
        none = {**padded(texts, orders, [torch.zeros(2, 1)] * 3, 1), **blind(3, toys.DIM)}
        without = choice_logits(model.network, Q2A, none)
    got = torch.tensor([one["score"] for one in cached(root, lines)])
    assert torch.allclose(got, want, atol=1e-5)
    assert (want - without).abs().max() > 0.05, "the picture does not matter"


def test_objects_of_drawn_scenes_are_chosen_among_by_a_published_kind_of_checkpoint(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """VCR's layout made of the boxes and colours of scenes: through the command, without a store."""
    assert main(["scenes", str(tmp_path / "s"), "--train", "2", "--val", "1", "--seed", "3"]) == 0
    file = json.loads((tmp_path / "s/annotations/instances_train.json").read_text())
    kinds = {one["id"]: one["name"] for one in file["categories"]}
    colours = ["red", "blue", "green", "white"]
    lines = []
    for image in file["images"]:
        things = [one for one in file["annotations"] if one["image_id"] == image["id"]][:6]
        boxes = [[x, y, x + w, y + h, 1.0] for x, y, w, h in (one["bbox"] for one in things)]
        stem = Path(image["file_name"]).stem
        content = {"boxes": boxes, "width": image["width"], "height": image["height"]}
        (tmp_path / f"s/train/{stem}.json").write_text(json.dumps(content))
        lines.append({"img_fn": image["file_name"], "metadata_fn": f"{stem}.json", "annot_id": stem,
                      "objects": [kinds[one["category_id"]] for one in things], "answer_label": 1,
                      "question": ["which", "colour", "has", [0], "?"],
                      "answer_choices": [[[0], "is", colour] for colour in colours],
                      "rationale_choices": [[[0], "is", "near", [i]] for i in (1, 2, 1, 0)],
                      "rationale_label": 0})  # fmt: skip
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, lines)))
    capsys.readouterr()
    out = tmp_path / "out.csv"
    assert main(["choose", str(tmp_path / "items.jsonl"), "--pictures", str(tmp_path / "s/train"), "--model",
                 str(checkpoint), "--upstream-geometry", "--json", "--out", str(out)]) == 0  # fmt: skip
    said = json.loads(capsys.readouterr().out)
    assert said["items"] == 2
    assert {"Q->A", "QA->R", "Q->AR"} < set(said)
    assert len(out.read_text().splitlines()) == 3
