"""A store and data for every task that reads a store: a table by task, for tests that hold for all of them alike.

Everything is made for ``pictures`` pictures p0, p1, ... with features of ``dim`` numbers (of LXMERT and its like, 16).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featx.record import Record
from featx.schema import Field, Schema
from featx.store import create_store, open_part
from tests import linear_toys, lxmert_toys, mbart_toys, vcr_toys, vle_toys

BATCH = 128  # records of one commit
MODEL: dict[str, Any] = {"hidden": 32, "heads": 4, "feedforward": 64, "init_std": 0.15, "tokenizer": {"size": 200}}

Make = Callable[[Path, int, int], dict[str, Any]]


@dataclass(frozen=True)
class Toy:
    """make: folder, pictures, dim -> options of the task, the store among them. dim: of its features, by default.

    train: settings with which it learns a few examples in seconds, among them the epochs. left: what part of the loss
    may then be left.
    large: a dim with which a record has about a hundred kilobytes. tower: what the names of the vision tower begin with
    in a published checkpoint.
    """

    make: Make
    dim: int
    train: Mapping[str, Any] = field(default_factory=dict)
    left: float = 0.1
    large: int | None = None
    tower: str | None = None


def grids(path: Path, pictures: int, dim: int, record: Callable[[int], Record], dtype: str) -> Path:
    """A store of records whose features are filled up with zeros to ``dim`` numbers."""
    rows = len(record(0).features)
    fields = (Field("features", dtype, (dim,)), Field("boxes", "float32", (4,)))
    create_store(path, "lmdb", Schema(fields, "grid", "grid", rows), vle_toys.PROVENANCE, {})
    with open_part(path) as writer:
        for i in range(pictures):
            one = record(i)
            wide = np.zeros((rows, dim), "float16" if dtype == "float16" else np.float32)
            wide[:, : one.features.shape[1]] = one.features
            writer.put(f"p{i}", Record(wide, one.boxes, one.size, rows, {}), i)
            if i % BATCH == BATCH - 1:
                writer.commit()
        writer.finish()
    return path


def grid_store(folder: Path, pictures: int, dim: int, record: Callable[[int], Record] = vle_toys.record) -> str:
    """As :func:`grids`: float32 where it is small, float16 where it is large."""
    return str(grids(folder / "store", pictures, dim, record, "float32" if dim < 1000 else "float16"))


def vle(write: Callable[[Path, int], dict[str, Any]], **more: Any) -> Make:
    """One of VLE's tasks; write: a specification of its data."""

    def make(folder: Path, pictures: int, dim: int) -> dict[str, Any]:
        spec = write(folder, pictures)
        model = {**MODEL, "layers": [1, 1], "max_length": 40}
        data = {"train": spec, "val": spec, **more}
        return {"store": grid_store(folder, pictures, dim), "model": model, "data": data}

    return make


def written(task: str) -> Callable[[Path, int], dict[str, Any]]:
    """Of the data that the toys write for several tasks, what this one reads."""
    return lambda folder, pictures: dict(vle_toys.write_data(folder, pictures)[task])


def bert(folder: Path, pictures: int, dim: int) -> dict[str, Any]:
    """VLE's questions, half of them said to be French."""
    spec = vle_toys.write_data(folder, pictures)["vle-vqa"]
    specs = [{**spec, "language": code} for code in ("en", "fr")]
    data = {"train": specs, "val": specs, "answers": {"least": 1}}
    return {"store": grid_store(folder, pictures, dim), "model": {**MODEL, "layers": 1, "max_length": 40}, "data": data}


def bert_words(folder: Path, pictures: int, dim: int) -> dict[str, Any]:
    """VLE's captions."""
    made, spec = bert(folder, pictures, dim), written("vle-itm")(folder, pictures)
    return {**made, "data": {"train": spec, "val": spec}}


def captions(folder: Path, pictures: int, dim: int) -> dict[str, Any]:
    """Captions in two languages."""
    files = mbart_toys.write_captions(folder, pictures)
    specs = [{"captions": str(path), "language": code} for code, path in files.items()]
    model = {**MODEL, "layers": 1, "max_length": 20, "init_std": 0.3}
    store = grid_store(folder, pictures, dim, lambda i: mbart_toys.record(i, i % 3))
    return {"store": store, "model": model, "data": {"train": specs, "val": specs}}


def vizwiz(folder: Path, pictures: int, dim: int) -> dict[str, Any]:
    """One vector a picture, and a store of the questions."""
    world, texts = linear_toys.World(pictures), linear_toys.text_store(folder / "texts")
    wide = {name: np.pad(vector, (0, dim - len(vector))) for name, vector in world.vectors.items()}
    rows = {name: vector[None] for name, vector in wide.items()}
    store = linear_toys.make_store(folder / "store", rows, linear_toys.provenance("projected"))
    spec = {"questions": world.write(folder / "vizwiz.json")}
    model, data = {"hidden": 32 if dim < 1000 else 8}, {"train": spec, "val": spec}
    return {"store": str(store), "texts": str(texts), "model": model, "data": data}


def lxmert(folder: Path, pictures: int, dim: int) -> dict[str, Any]:
    """A question about each picture."""
    asked = [
        {"question_id": i, "img_id": f"p{i}", "sent": "what colour is the cube?",
         "label": {lxmert_toys.ANSWERS[i % 4]: 1.0}, "answer_type": "other"}
        for i in range(pictures)
    ]  # fmt: skip
    records = {f"p{i}": lxmert_toys.record(i) for i in range(pictures)}
    store = lxmert_toys.make_store(folder / "store", records)
    return {**lxmert_toys.options(lxmert_toys.write_questions(folder / "q.json", asked)), "store": str(store)}


def pretraining(folder: Path, pictures: int, dim: int) -> dict[str, Any]:
    """The same questions, and captions."""
    options, where = lxmert(folder, pictures, dim), folder / "captions.json"
    texts = [{"id": i, "image_id": i, "caption": f"a cube in front of tree {i}"} for i in range(pictures)]
    images = [{"id": i, "file_name": f"p{i}.jpg"} for i in range(pictures)]
    where.write_text(json.dumps({"images": images, "annotations": texts}))
    specs = [options["data"]["train"], {"captions": str(where)}]
    return {**options, "data": {**options["data"], "train": specs, "val": specs}}


BERT_ADAM = {"optimiser": "bertadam", "lr": 2e-3, "clip": 5.0}
MATCHING = {"batch": 8, "epochs": 150, "lr": 2e-3}
GRID = 1 << 13
BERT_TOWER = "model.embeddings.clip_vision_module.vision_model."
VLE_TOWER = "vle.vision_model.vision_model."
# What is hidden and swapped is drawn anew in every epoch, so that only a part of these losses can be learned by heart.
TOYS: dict[str, Toy] = {
    "lxmert-vqa": Toy(lxmert, lxmert_toys.DIM, BERT_ADAM),
    "lxmert-gqa": Toy(lxmert, lxmert_toys.DIM, BERT_ADAM),
    "lxmert-pretrain": Toy(pretraining, lxmert_toys.DIM, BERT_ADAM, left=0.6),
    "clip-linear-vizwiz": Toy(vizwiz, linear_toys.IMAGE, large=5 * GRID // 2),
    "clip-mbart-captions": Toy(captions, mbart_toys.DIM, large=GRID, tower="model.encoder.vision_model."),
    "clip-bert-vqa": Toy(bert, vle_toys.DIM, large=GRID, tower=BERT_TOWER),
    "clip-bert-mlm": Toy(bert_words, vle_toys.DIM, left=0.6, large=GRID, tower=BERT_TOWER),
    "vle-vqa": Toy(vle(written("vle-vqa"), answers={"least": 1}), vle_toys.DIM, large=GRID, tower=VLE_TOWER),
    "vle-itm": Toy(vle(written("vle-itm")), vle_toys.DIM, MATCHING, left=0.5, large=GRID, tower=VLE_TOWER),
    "vle-pbc": Toy(vle(written("vle-pbc")), vle_toys.DIM, large=GRID, tower=VLE_TOWER),
    "vle-vcr": Toy(vle(vcr_toys.write), vle_toys.DIM, large=GRID, tower=VLE_TOWER),
}
LOOK_AT_PICTURES = {"detector", "clip-tower"}  # read no store


def options_of(task: str, folder: Path, pictures: int, dropout: float, dim: int | None = None) -> dict[str, Any]:
    """The options of a task, in ``folder``, which is made."""
    toy = TOYS[task]
    folder.mkdir(parents=True, exist_ok=True)
    made = toy.make(folder, pictures, dim or toy.dim)
    return {**made, "model": {**made["model"], "dropout": dropout}}
