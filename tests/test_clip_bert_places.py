"""Places of the picture's tokens in CLIP-Vision-BERT: one for all, as published, or a place for each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from featx.checkpoint.place import locate
from featx.clip_bert.consumer import save
from featx.clip_bert.network import ClipBert
from featx.clip_bert.places import spread
from featx.clip_bert.sizes import Sizes
from featx.clip_bert.weights import load_network, new_network
from featx.errors import UsageError, WeightsError
from tests import clip_bert_toys as toys
from tests import vle_toys
from tests.test_clip_bert import ANSWERS, random_batch, words
from tests.test_clip_bert_task import COUNT, build


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    vle_toys.make_store(folder / "store", COUNT)
    return folder


def cells(across: int, side: float = 10.0) -> torch.Tensor:
    """The whole picture, then its cells row by row."""
    whole = [[0.0, 0.0, across * side, across * side]]
    return torch.tensor(whole + [
        [x * side, y * side, (x + 1) * side, (y + 1) * side] for y in range(across) for x in range(across)
    ])  # fmt: skip


def network(places: str) -> ClipBert:
    torch.manual_seed(0)
    made, _ = new_network(Sizes(60, toys.DIM, 24, 32, 4, 2, 40, 0.0, 0.3, places), 7)  # type: ignore[arg-type]
    return made.eval()


def test_neighbours_in_the_picture_are_neighbours_in_the_table() -> None:
    torch.manual_seed(0)
    table = nn.Embedding(70, 64)
    behind = table.weight[65:].clone()
    spread(table, cells(8), (80, 80), 2.0)
    drawn = table.weight.detach()[1:65].view(8, 8, 64)
    beside = (drawn[:, 1:] - drawn[:, :-1]).norm(dim=-1).mean()
    across = (drawn[:, 7] - drawn[:, 0]).norm(dim=-1).mean()
    assert beside < 0.6 * across
    assert table.weight[:65].std().item() == pytest.approx(2.0, rel=1e-3)
    torch.testing.assert_close(table.weight[65:], behind)


def test_where_a_cell_is_can_be_read_off_its_place_by_a_straight_line() -> None:
    torch.manual_seed(1)
    table, boxes = nn.Embedding(65, 64), cells(8)
    spread(table, boxes, (80, 80), 1.0)
    known = torch.cat([table.weight.detach(), torch.ones(65, 1)], dim=1).double()
    centres = ((boxes[:, :2] + boxes[:, 2:]) / 2).double()
    solved = torch.linalg.lstsq(known, centres).solution
    assert (known @ solved - centres).abs().max() < 1e-3


@torch.no_grad()
def test_with_a_place_for_each_the_order_of_the_tokens_matters_and_else_it_does_not() -> None:
    turned = torch.tensor([4, 3, 2, 1, 0])
    for places, matters in (("count", False), ("each", True)):
        made = network(places)
        batch = random_batch(made)
        moved = made.answer_logits({**batch, "features": batch["features"][:, turned]})
        assert ((moved - made.answer_logits(batch)).abs().max() > 0.01) == matters
    own = {**batch, "visual_places": torch.arange(toys.ROWS).expand(3, -1)}
    torch.testing.assert_close(made.answer_logits(own), made.answer_logits(batch), atol=0, rtol=0)


def test_the_folder_says_which_and_one_that_says_nothing_is_as_published(tmp_path: Path) -> None:
    for places in ("count", "each"):
        (tmp_path / places).mkdir()
        torch.manual_seed(0)
        made, config = new_network(
            Sizes(len(words()), toys.DIM, 24, 32, 4, 2, 40, places=places),  # type: ignore[arg-type]
            len(ANSWERS),
        )
        said = {"max_length": 20, "wants": {"dim": toys.DIM, "profile": "profile-1", "weights": "weights-1"}}
        save(tmp_path / places, made, config, words(), ANSWERS, said)
        assert load_network(locate(tmp_path / places)).network.model.places == places
    file = tmp_path / "count" / "config.json"
    stated = json.loads(file.read_text())
    assert "visual_places" not in stated
    file.write_text(json.dumps({**stated, "visual_places": "some"}))
    with pytest.raises(WeightsError, match="visual_places 'some'"):
        load_network(locate(tmp_path / "count"))


def test_a_recipe_asks_for_places_and_finds_them_in_its_store(home: Path) -> None:
    made = build(home, model={**toys.MODEL, "place_std": 2.0}).model
    table = made.model.embeddings.visual_position_embeddings.weight
    assert made.model.places == "each"
    assert table[: toys.ROWS].std().item() == pytest.approx(2.0, rel=1e-3)
    assert build(home).model.model.places == "count"


def test_weights_that_are_given_have_their_places_already(home: Path) -> None:
    with pytest.raises(UsageError, match="place_std"):
        build(home, model={"weights": "somewhere", "place_std": 2.0})
