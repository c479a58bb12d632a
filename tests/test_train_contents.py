"""Examples that differ have other sums, whatever they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from featx.train.contents import contents


@dataclass(frozen=True)
class One:
    """An example with a single field."""

    value: Any


@dataclass(frozen=True)
class Two:
    """An example with more."""

    value: Any
    name: str = "a"


def large(changed: float) -> np.ndarray[Any, Any]:
    """An array that ``repr`` abridges, different in its middle."""
    array = np.zeros(4000, np.float32)
    array[2000] = changed
    return array


@pytest.mark.parametrize("kind", [One, Two])
def test_an_array_counts_in_all_its_numbers(kind: type[Any]) -> None:
    assert contents([kind(large(1))]) == contents([kind(large(1))])
    assert contents([kind(large(1))]) != contents([kind(large(2))])


@pytest.mark.parametrize(("mine", "theirs"), [
    ([One(1), One(2)], [One(2), One(1)]), ([Two(1)], [Two(1, "b")]), (["p1"], ["p2"]), ([(1, "a")], [(1, "b")]),
    ([1, 2], [1]),
])  # fmt: skip
def test_other_examples_or_another_order_are_seen(mine: list[Any], theirs: list[Any]) -> None:
    assert contents(mine) == contents(list(mine))
    assert contents(mine) != contents(theirs)
