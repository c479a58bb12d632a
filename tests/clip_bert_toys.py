"""Questions in two languages about the grids of vle_toys, and a small network for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from featx.clip_bert.network import ClipBert
from featx.clip_bert.sizes import Sizes
from featx.clip_bert.weights import new_network
from tests import vle_toys

DIM, ROWS = vle_toys.DIM, vle_toys.ROWS
FRENCH = {"first": "premier", "second": "second", "third": "troisième", "last": "dernier"}
MODEL: dict[str, Any] = {"hidden": 32, "heads": 2, "layers": 2, "init_std": 0.15, "dropout": 0.0,
                         "tokenizer": {"size": 200}, "max_length": 16}  # fmt: skip


def write_data(folder: Path, count: int = 24) -> list[dict[str, str]]:
    """Specifications of the questions of vle_toys, in English and in French; annotations are one file."""
    spec = vle_toys.write_data(folder, count)["vle-vqa"]
    content = json.loads(Path(spec["questions"]).read_text())
    for row in content["questions"]:
        place = next(name for name in FRENCH if name in row["question"])
        row["question"] = f"qu'y a-t-il dans le {FRENCH[place]} coin ?"
    french = folder / "questions_fr.json"
    french.write_text(json.dumps(content))
    return [{**spec, "language": "en"}, {**spec, "questions": str(french), "language": "fr"}]


def network(vocabulary: int, answers: int | None, seed: int = 0) -> tuple[ClipBert, dict[str, Any]]:
    """A network without symmetries: no bias is zero and no scale one."""
    torch.manual_seed(seed)
    made, config = new_network(Sizes(vocabulary, DIM, 24, 32, 4, 2, 40, 0.0, 0.3), answers)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval(), config
