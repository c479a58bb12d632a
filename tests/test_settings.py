"""Settings against their annotations: what is taken as it is, and what a slip is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from featx.errors import UsageError
from featx.settings import Count, PartShare, Positive, Share, Whole, read


@dataclass(frozen=True)
class Inner:
    sizes: tuple[Whole, Count] | None = None
    names: Sequence[Literal["a", "b"]] = ()


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    flag: bool = False
    count: Count | None = None
    number: float = 0.0
    part: PartShare = 0.0
    share: Share = 0.5
    rate: Positive = 1.0
    text: str | Mapping[str, Any] = ""
    kind: Literal["x", "y"] = "x"
    free: Any = None
    more: Mapping[str, Any] = field(default_factory=dict)


def test_values_that_fit_are_taken_as_they_are_and_the_rest_is_default() -> None:
    values = {"inner": {"sizes": [0, 3], "names": ["b", "a"]}, "flag": True, "count": 2, "number": 3, "share": 1,
              "text": {"size": 1}, "kind": "y", "free": [1], "more": {"k": None}}  # fmt: skip
    found = read(Outer, "", values)
    assert (found.inner, found.rate) == (Inner([0, 3], ["b", "a"]), 1.0)  # type: ignore[arg-type]
    assert {name: getattr(found, name) for name in values if name != "inner"} == {
        name: value for name, value in values.items() if name != "inner"
    }
    assert read(Outer, "", {"count": None, "inner": {"sizes": None}}) == Outer()


@pytest.mark.parametrize(
    ("values", "found", "hint"),
    [
        ({"flag": "no"}, "flag is 'no'", "give true or false for flag"),
        ({"flag": 1}, "flag is 1", ""),
        ({"count": 0}, "count is 0", "give a whole number of 1 or more, or nothing for count"),
        ({"count": True}, "count is True", ""),
        ({"count": 1.0}, "count is 1.0", ""),
        ({"number": float("inf")}, "number is inf", "give a number for number"),
        ({"number": True}, "number is True", ""),
        ({"part": 1}, "part is 1", "give a number from 0 to below 1 for part"),
        ({"share": 1.5}, "share is 1.5", ""),
        ({"rate": 0}, "rate is 0", "give a number above 0 for rate"),
        ({"text": 5}, "text is 5", "give a text, or a mapping of settings for text"),
        ({"kind": "z"}, "kind is 'z'", "give one of x, y for kind"),
        ({"kind": ["x"]}, "kind is ['x']", ""),
        ({"more": "k"}, "more is 'k'", "give a mapping of settings for more"),
        ({"inner": 3}, "inner is 3", "expected a mapping of settings"),
        ({"inner": {"sizes": [1]}}, "inner.sizes is [1]", "give a list of 2: a whole number of 0 or more, "
         "a whole number of 1 or more, or nothing for inner.sizes"),
        ({"inner": {"sizes": [1, 0]}}, "inner.sizes is [1, 0]", ""),
        ({"inner": {"sizes": "12"}}, "inner.sizes is '12'", ""),
        ({"inner": {"names": "ab"}}, "inner.names is 'ab'", ""),
        ({"inner": {"names": ["a", "c"]}}, "inner.names is ['a', 'c']", "give a list, each entry one of a, b,"),
        ({"inner": {"size": 1}}, "inner.size is not a setting", "did you mean sizes? known are sizes, names"),
        ({"zebra": 1}, "zebra is not a setting", "known are inner, flag, "),
        ("x", "the configuration is 'x'", ""),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_named_with_what_would(values: Any, found: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(Outer, "", values)
    assert caught.value.message == found
    assert caught.value.hint.startswith(hint)
