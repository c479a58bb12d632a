"""What a training run leaves behind: the folder of a CLIP as transformers reads it, and a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featx.checkpoint.save import as_saved, write_json, write_tensors
from featx.checkpoint.tower import tower_hash, tower_of
from featx_extractors.tower_training.letters import Letters
from featx_extractors.towers.image_processor import image_processor
from featx_extractors.towers.resizing import Resizing
from featx_extractors.training.coco import Names

WEIGHTS, CARD = "model.safetensors", "card.md"


def write_tower(
    folder: Path,
    clip: Any,
    letters: Letters,
    how: Resizing,
    options: Mapping[str, Any],
    names: Names,
    trained_on: Mapping[str, Any],
) -> None:
    """Weights, configuration, preprocessing (``how``), vocabulary and card."""
    tensors = dict(clip.state_dict())
    write_tensors(folder / WEIGHTS, tensors, options["model"]["dtype"])
    write_json(folder / "config.json", clip.config.to_dict() | {"architectures": [type(clip).__name__]})
    write_json(folder / "preprocessor_config.json", image_processor(how))
    letters.save(folder)
    kept = as_saved(tensors, options["model"]["dtype"])
    (folder / CARD).write_text(card(tower_hash(tower_of(kept)), clip, options, names, trained_on), encoding="utf-8")


def card(digest: str, clip: Any, options: Mapping[str, Any], names: Names, trained_on: Mapping[str, Any]) -> str:
    """The card of a run, Markdown: network, names, recipe, figures."""
    vision, count = clip.config.vision_config, sum(p.numel() for p in clip.parameters())
    lines = [
        "# A CLIP trained by featx",
        "",
        f"{vision.num_hidden_layers} blocks of width {vision.hidden_size}, patches of {vision.patch_size} in pictures "
        f"of {vision.image_size}, {count:,} numbers; its vision tower has the sha256 `{digest}`.",
        "",
        f"- {len(names.objects)} objects: {', '.join(names.objects)}",
        f"- {len(names.attributes)} attributes: {', '.join(names.attributes) or 'none'}",
    ]
    for title, values in (("Recipe", options), ("Trained on, and figures", trained_on)):
        text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False, default=str)
        lines += ["", f"## {title}", "", "```json", text, "```"]
    return "\n".join(lines) + "\n"
