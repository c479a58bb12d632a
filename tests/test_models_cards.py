"""What a kind of model says of itself is so, and is on the page about models."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from featx.consumer import Consumer

ROOT = Path(__file__).resolve().parent.parent


def cards() -> list[Any]:
    found = entry_points(group="featx.models")
    return [pytest.param(e.load(), id=e.name) for e in found if e.value.startswith("featx.")]


@pytest.mark.parametrize("kind", cards())
def test_what_a_card_names_is_there(kind: type[Consumer]) -> None:
    assert set(kind.card.tasks) <= {e.name for e in entry_points(group="featx.tasks")}
    missing = [name for name in kind.card.recipes if not (ROOT / "configs" / name).is_file()]
    assert missing == []
    assert all((kind.card.title, kind.card.reads, kind.card.checkpoints, kind.card.verified))


@pytest.mark.parametrize("kind", cards())
def test_the_page_about_models_says_what_the_card_says(kind: type[Consumer]) -> None:
    page = " ".join((ROOT / "docs/models.md").read_text(encoding="utf-8").split())
    assert f"`{kind.name}`" in page
    assert all(f"`{task}`" in page for task in kind.card.tasks)
    assert all(f"`{recipe}`" in page for recipe in kind.card.recipes)
