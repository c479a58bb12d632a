"""VCR's files about the grids of :mod:`tests.vle_toys`: an object for each cell, in any order, and what is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests import vle_toys as toys

ANSWERS = (*toys.THINGS, "green cone")  # the last one is never right
SCALE = 5  # metadata are about pictures five times as large as those of the store


def item(i: int) -> dict[str, Any]:
    """A line of the file, about picture i: what one of its objects is, and where it is."""
    rng = np.random.default_rng(5000 + i)
    cells = order(i)
    asked = int(rng.integers(4))
    answers, places = rng.permutation(4).tolist(), rng.permutation(4).tolist()
    thing = toys.things(i)[cells[asked]]
    return {
        "movie": "toys", "objects": ["person", "car", "person", "dog"], "interesting_scores": [0],
        "img_fn": f"toys/p{i}.jpg", "metadata_fn": f"toys/p{i}.json", "img_id": f"train-{i}", "question_number": 0,
        "annot_id": f"train-{i}", "question": ["What", "is", [asked], "?"],
        "answer_choices": [[[asked], "is", "a", *ANSWERS[k].split(), "."] for k in answers],
        "answer_label": answers.index(thing),
        "rationale_choices": [[[asked], "is", "in", "the", toys.PLACES[k], "corner", "."] for k in places],
        "rationale_label": places.index(cells[asked]),
    }  # fmt: skip


def order(i: int) -> list[int]:
    """The cell of each object of picture i."""
    return [int(k) for k in np.random.default_rng(7000 + i).permutation(4)]


def write(folder: Path, count: int = 24) -> dict[str, Any]:
    """The specification of a data set that is written into the folder."""
    (folder / "toys").mkdir(parents=True, exist_ok=True)
    for i in range(count):
        boxes = [[*(SCALE * (toys.BOXES[1 + cell] + [1, 1, -1, -1])).tolist(), 0.99] for cell in order(i)]
        content = {"boxes": boxes, "segms": [[]] * 4, "names": item(i)["objects"], "width": 20 * SCALE,
                   "height": 20 * SCALE}  # fmt: skip
        (folder / f"toys/p{i}.json").write_text(json.dumps(content))
    lines = "".join(json.dumps(item(i)) + "\n" for i in range(count))
    (folder / "items.jsonl").write_text(lines)
    return {"vcr": str(folder / "items.jsonl"), "pictures": str(folder)}
