"""A vision tower taken out of a checkpoint: recognised, reported on, written as a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featx.checkpoint.config import read_config
from featx.checkpoint.place import Place, locate
from featx.checkpoint.save import write_json, write_tensors
from featx.checkpoint.shards import is_index, read_index
from featx.errors import FeatxError, UsageError, WeightsError
from featx.formats.publish import published_folder
from featx_extractors.towers.family import vision_section
from featx_extractors.towers.image_processor import image_processor
from featx_extractors.towers.loading import load_tower
from featx_extractors.towers.seeded import seeded_location
from featx_extractors.towers.tower import Tower

_FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
_PATCHES = "embeddings.patch_embedding.weight"


def holds_tower(location: str) -> bool:
    """Whether a location is a checkpoint with a vision tower, by its ``config.json`` or the names of its tensors.

    Cheap: tensors are not read. False for what cannot be found.
    """
    if seeded_location(location) is not None:
        return True
    try:
        place = locate(location, weights=False)
        config = read_config(place.beside("config.json"))
    except FeatxError:
        return False
    return vision_section(config) is not None or _named(place)


def _named(place: Place) -> bool:
    """Whether the weights, of a place without sizes, are a tower's by their names."""
    if place.weights is not None and is_index(place.weights):
        return any(name.endswith(_PATCHES) for name in read_index(place.weights))
    if place.weights is None or place.weights.suffix != ".safetensors":
        return place.weights is not None and place.weights.suffix == ".msgpack"
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(place.weights, "pt") as file:
            return any(name.endswith(_PATCHES) for name in file.keys())  # noqa: SIM118
    except (SafetensorError, OSError):
        return False


def inspect_tower(location: str) -> dict[str, Any]:
    """What is known of the tower of a location, as plain JSON. Raises WeightsError."""
    return _report(load_tower(location))


def import_tower(location: str, out: str | Path, *, expect_sha256: str | None = None, overwrite: bool = False) -> Any:
    """Write the tower of a checkpoint to the folder ``out``; returns the report on that folder.

    The folder has ``config.json``, ``model.safetensors`` (float32) and ``preprocessor_config.json``, as transformers
    reads a CLIPVisionModel, or one with its projection. Raises WeightsError, also when ``out`` exists, or the tower's
    hash is not the expected one.
    """
    out = Path(out)
    if out.suffix in (".safetensors", ".bin", ".pth", ".pt", ".msgpack"):
        raise UsageError(f"{out} is the name of a file, and a vision tower becomes a folder", "name a folder")
    if out.exists() and not overwrite:
        raise WeightsError(f"{out} exists", "choose another name, or allow overwriting (--overwrite)")
    if _is_source(location, out):
        raise UsageError(
            f"{out} is the folder of the checkpoint itself, of which only the tower would be left",
            "name another folder",
        )
    tower = load_tower(location)
    tower.origin.check(expect_sha256)
    tensors = {f"vision_model.{name}": tensor for name, tensor in tower.network.state_dict().items()}
    if tower.projection is not None:
        tensors["visual_projection.weight"] = tower.projection
    with published_folder(out, _FILES.__contains__) as draft:
        write_json(draft / "config.json", _config(tower))
        write_tensors(draft / "model.safetensors", tensors)
        write_json(draft / "preprocessor_config.json", image_processor(tower.stated))
    return {**_report(load_tower(out)), "taken_from": tower.origin.source, "notes": list(tower.origin.notes)}


def _is_source(location: str, out: Path) -> bool:
    """Whether ``out`` is the folder that the checkpoint is read from."""
    path = Path(location).expanduser()
    folder = path if path.is_dir() else path.parent
    return path.exists() and out.resolve() == folder.resolve()


def _config(tower: Tower) -> dict[str, Any]:
    kind, projection = tower.family.vision, tower.projection
    if projection is not None:
        return {"architectures": [f"{kind}WithProjection"], **tower.settings, "projection_dim": len(projection)}
    return {"architectures": [kind], **tower.settings}


def _report(tower: Tower) -> dict[str, Any]:
    network, origin = tower.network, tower.origin
    projection = tower.projection
    return {
        "kind": "vision tower",
        "source": origin.source,
        "sha256": origin.sha256,
        "trained": origin.trained,
        "family": tower.family.name,
        "blocks": tower.blocks,
        "dim": tower.dim,
        "heads": int(tower.config.num_attention_heads),
        "image": tower.native,
        "patch": tower.patch,
        "rows": (tower.native // tower.patch) ** 2 + tower.family.cls,
        "cls": tower.family.cls,
        "projection": None if projection is None else len(projection),
        "projection_sha256": origin.projection,
        "parameters": sum(tensor.numel() for tensor in network.state_dict().values()),
        "tensors": len(network.state_dict()),
        "preprocessing": tower.stated.switches(),
        "notes": list(origin.notes),
    }


def lines_of(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A report for people: a name and a sentence in each line."""
    how = report["preprocessing"]
    size = f"to {how['size'][1]} x {how['size'][0]}" if how["size"] else f"short side to {how['short']}"
    cut = f", {how['crop'][1]} x {how['crop'][0]} cut out of the middle" if how["crop"] else ""
    return [
        ("tower", f"{report['family']}, from {report.get('taken_from', report['source'])}"),
        ("sha256", report["sha256"]),
        ("network", f"{report['blocks']} blocks of width {report['dim']}, {report['heads']} heads, "
                    f"{report['parameters']:,} numbers, {report['tensors']} tensors"),
        ("input", f"{report['image']} pixels, patches of {report['patch']}: {report['rows']} rows"
                  + " with the class token" * report["cls"]),
        ("projection", f"to {report['projection']}" if report["projection"] else "none"),
        ("trained", "yes" if report["trained"] else "NO: the features mean nothing"),
        ("pictures", f"{size}{cut}, {how['filter']}"),
    ]  # fmt: skip
