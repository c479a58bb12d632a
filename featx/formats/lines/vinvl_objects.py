"""The regions of a picture as JSON, a mapping for each, in VinVL's ``predictions.tsv`` and Oscar's ``label.tsv``.

A region has rect (x0 y0 x1 y1, pixels of the original), class (its name), conf and, where they were saved, attributes
(names) and attr_scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from featx.errors import UsageError
from featx.record import Record
from featx.schema import Array

BACKGROUND = "__background__"  # what VinVL's map of labels calls class 0; -1 in a store
_MOST = float(np.finfo(np.float32).max)


def mappings(found: Any) -> list[dict[str, Any]]:
    """The regions, which must be a list of mappings. Raises ValueError."""
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("its second column is no JSON with a list of objects")
    return found


def rects(objects: list[dict[str, Any]]) -> Array:
    """The boxes, float32 ``[n, 4]``. Raises ValueError."""
    return np.array([_numbers(one, "rect", 4) for one in objects], "<f4").reshape(-1, 4)


def named(objects: list[dict[str, Any]], labels: Mapping[str, Sequence[str]]) -> dict[str, Array]:
    """Ids by the names that were told, and confidences. Raises ValueError for a name that is not among them."""
    extra: dict[str, Array] = {}
    if "objects" in labels:
        known, names = labels["objects"], [text(one, "class") for one in objects]
        classes = [None if name == BACKGROUND and name not in known else name for name in names]
        extra["object_ids"] = _ids(classes, known, "class")
    if all("conf" in one for one in objects):
        extra["object_confs"] = np.array([_number(one["conf"], "conf") for one in objects], "<f4")
    return extra


def attributes(objects: list[dict[str, Any]], known: Sequence[str]) -> dict[str, Array]:
    """The surest attribute of each region and its score; -1 and 0 of one without. Raises ValueError."""
    best = [_surest(one) for one in objects]
    ids = _ids([name for name, _ in best], known, "attribute")
    return {"attribute_ids": ids, "attribute_confs": np.array([conf for _, conf in best], "<f4")}


def told(record: Record, row: int, labels: Mapping[str, Any]) -> dict[str, Any]:
    """Rect, class and conf of a region. A float32 is written as the double that it is, so that it comes back."""
    made: dict[str, Any] = {
        "rect": [float(side) for side in record.boxes[row]],
        "class": name_of(labels["objects"], record.extra["object_ids"][row]),
    }
    if "object_confs" in record.extra:
        made["conf"] = float(record.extra["object_confs"][row])
    return made


def name_of(names: Sequence[str], number: int) -> str:
    """The name of an id, -1 being background. Raises UsageError for an id without."""
    if number == -1:
        return BACKGROUND
    if not 0 <= number < len(names):
        raise UsageError(f"id {number} has no name among the {len(names)} of the store", "export another format")
    return names[number]


def text(one: dict[str, Any], what: str) -> str:
    """A text of a region. Raises ValueError."""
    value = one.get(what)
    if not isinstance(value, str):
        raise ValueError(f"an object has the {what} {value!r:.80}, expected text")
    return value


def _surest(one: dict[str, Any]) -> tuple[str | None, float]:
    """The attribute with the highest score, and that; None and 0 of an object without. Raises ValueError."""
    names, scores = one.get("attributes", []), one.get("attr_scores", [])
    if not (isinstance(names, list) and isinstance(scores, list) and len(names) == len(scores)):
        raise ValueError("an object has not a score for each attribute")
    if not names:
        return None, 0.0
    confs = [_number(score, "attr_scores") for score in scores]
    place = int(np.argmax(confs))
    if not isinstance(names[place], str):
        raise ValueError(f"an attribute is {names[place]!r:.80}, expected a name")
    return names[place], confs[place]


def _ids(names: Sequence[str | None], known: Sequence[str], what: str) -> Array:
    """The numbers of names; -1 for None. Raises ValueError for one that is not known."""
    numbers = _index(tuple(known))
    unknown = [name for name in names if name is not None and name not in numbers]
    if unknown:
        raise ValueError(f"the {what} {unknown[0]!r:.80} is not in the list of names that was given")
    return np.array([-1 if name is None else numbers[name] for name in names], "<i4")


@lru_cache(maxsize=4)
def _index(names: tuple[str, ...]) -> dict[str, int]:
    """The number of each name; of one that is listed twice, the first."""
    return {name: number for number, name in reversed(list(enumerate(names)))}


def _numbers(one: dict[str, Any], what: str, count: int) -> list[float]:
    value = one.get(what)
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"an object has the {what} {value!r:.80}, expected {count} numbers")
    return [_number(number, what) for number in value]


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _MOST:
        raise ValueError(f"{what} holds {value!r:.80}, expected a number")
    return float(value)
