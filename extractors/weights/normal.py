"""The normal form: one safetensors file that says everything about itself.

Tensors are float32 under detectron2's names (:meth:`Architecture.shapes`), with one meaning each: background last,
objectness as one logit per anchor (foreground minus background), box deltas for foreground classes only, anchors
stored, batch norm as plain statistics. The metadata entry ``featx`` is the :class:`Header` as canonical JSON.

A file may hold weights of layers as float16, half the size: they are widened when read, exactly, and the hashes are
those of the widened numbers. Anchors, biases and batch norm are float32 in any file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from featx.errors import WeightsError
from featx.schema import Array
from featx_extractors.weights.architecture import CELL_ANCHORS, Architecture, Shapes
from featx_extractors.weights.checkpoint import Weights4
from featx_extractors.weights.hf import read_safetensors

FORMAT = 1
KEY = "featx"


@dataclass(frozen=True)
class Header:
    """What the tensors cannot say.

    layout, source, source_sha256: where they came from (file name without folder, sha256 of that file).
    sha256: of the tensors themselves, see :func:`tensors_sha256`; equal for the same numbers from any layout.
    delta_weights: what dx, dy, dw, dh of the region head are divided by, and how that was decided.
    anchors: which generator the stored anchors come from. legacy_plus_one: they were trained with x1 - x0 + 1 widths.
    profile: the parity profile these weights were published with. objects, attributes: names of the ids, or None.
    config: what a ``config.yaml`` beside the source stated.
    """

    layout: str
    source: str
    source_sha256: str
    sha256: str
    classes: int
    attribute_classes: int
    delta_weights: Weights4
    delta_weights_from: str
    rpn_delta_weights: Weights4
    anchors: str
    anchors_sha256: str
    legacy_plus_one: bool
    profile: str
    objects: tuple[str, ...] | None = None
    attributes: tuple[str, ...] | None = None
    trained: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON form, with the version of the format."""
        data = {"format": FORMAT} | {f.name: getattr(self, f.name) for f in fields(self)}
        return json.loads(json.dumps(data))  # type: ignore[no-any-return]

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSON: of the tensors and of everything said about them."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str, file: str) -> Header:
        """Inverse of :meth:`to_json`. Raises WeightsError for another format version or a malformed header."""
        try:
            data = json.loads(text)
            version = data.pop("format")
            if version != FORMAT:
                raise WeightsError(
                    f"{file} is in format {version!r} of the normal form, this featx reads format {FORMAT}",
                    "import the source again with this version of featx",
                )
            for name, value in data.items():
                if isinstance(value, list):
                    data[name] = tuple(value)
            header = cls(**data)
            header._check_types()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise WeightsError(f"{file} has a damaged header: {error}", "import the source again") from None
        return header

    def _check_types(self) -> None:
        for f in fields(self):
            if not _CHECKS[str(f.type)](getattr(self, f.name)):
                raise ValueError(f"{f.name} is {getattr(self, f.name)!r}")


def _are_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)


def _are_weights(value: Any) -> bool:
    return len(value) == 4 and all(isinstance(v, int | float) and math.isfinite(v) and v > 0 for v in value)


# By annotation: JSON can put any kind of value into any field of a header.
_CHECKS: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "int": lambda value: type(value) is int,
    "bool": lambda value: isinstance(value, bool),
    "Weights4": _are_weights,
    "tuple[str, ...]": _are_names,
    "tuple[str, ...] | None": lambda value: value is None or _are_names(value),
    "Mapping[str, Any]": lambda value: isinstance(value, dict),
}


@dataclass(frozen=True, eq=False)
class Weights:
    """Tensors of the normal form by name (float32, contiguous, CPU), and their header."""

    tensors: Mapping[str, torch.Tensor]
    header: Header

    @property
    def architecture(self) -> Architecture:
        """The sizes of the network."""
        return Architecture.of(shapes_of(self.tensors), self.header.source)

    @property
    def labels(self) -> dict[str, tuple[str, ...] | None]:
        """Names of the ids, as an extractor reports them."""
        return {"objects": self.header.objects, "attributes": self.header.attributes}

    def with_labels(self, objects: tuple[str, ...] | None, attributes: tuple[str, ...] | None) -> Weights:
        """The same weights with other label lists; None keeps what is there."""
        header = self.header
        kept = replace(header, objects=objects or header.objects, attributes=attributes or header.attributes)
        return replace(self, header=kept)


def shapes_of(tensors: Mapping[str, Any]) -> Shapes:
    """Name -> shape of arrays or torch tensors."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 over name, shape and little-endian float32 bytes of every tensor, by sorted name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].numpy()
        digest.update(f"{name}\0{list(array.shape)}\0".encode())
        digest.update(array.astype("<f4", copy=False).data if array.size else b"")
    return digest.hexdigest()


def anchors_sha256(cell: torch.Tensor | Array) -> str:
    """sha256 of the little-endian float32 bytes of a cell ``[A, 4]``."""
    return hashlib.sha256(torch.as_tensor(cell).numpy().astype("<f4").tobytes()).hexdigest()


def read_normal(path: Path | str) -> Weights:
    """Read the normal form and check it: names, shapes, hashes, header against tensors. Raises WeightsError."""
    path = Path(path)
    arrays, metadata = read_safetensors(path)
    if KEY not in metadata:
        raise WeightsError(f"{path} is not in the normal form", f"featx weights import {path} OUT.safetensors")
    return from_arrays(arrays, Header.from_json(metadata[KEY], str(path)), path)


def from_arrays(arrays: Mapping[str, Array], header: Header, path: Path) -> Weights:
    """Weights of arrays read from ``path``, checked against their header. Raises WeightsError."""
    foreign = [f"{name} is {array.dtype}" for name, array in arrays.items() if array.dtype not in _widths(name)]
    if foreign:
        raise WeightsError(
            f"{path}: {foreign[0]}, the normal form is float32 (weights of layers may be float16)",
            "import the source again",
        )
    tensors = {name: torch.from_numpy(array.astype(np.float32, copy=False)) for name, array in arrays.items()}
    architecture = Architecture.of(shapes_of(tensors), str(path))
    architecture.check(shapes_of(tensors), str(path))
    said = {
        "classes": (header.classes, architecture.classes),
        "attribute_classes": (header.attribute_classes, architecture.attributes),
        "objects": (len(header.objects or ()) or header.classes, architecture.classes),
        "attributes": (len(header.attributes or ()) or header.attribute_classes, architecture.attributes),
        "sha256": (header.sha256, tensors_sha256(tensors)),
        "anchors_sha256": (header.anchors_sha256, anchors_sha256(tensors[CELL_ANCHORS])),
    }
    for name, (expected, found) in said.items():
        if expected != found:
            raise WeightsError(
                f"{path}: the header says {name} {expected}, the tensors give {found}",
                "the file was changed or damaged after the import: import the source again",
            )
    return Weights(tensors, header)


def rounded_to_float16(weights: Weights) -> Weights:
    """The weights that a float16 file of them holds, under the hash of these. Raises WeightsError beyond its range."""
    tensors = {n: t.half().float() if np.float16 in _widths(n) else t for n, t in weights.tensors.items()}
    lost = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if lost:
        raise WeightsError(f"{lost[0]} has numbers that float16 cannot hold", "write float32 instead")
    header = replace(weights.header, sha256=tensors_sha256(tensors), source_sha256=tensors_sha256(tensors))
    return Weights(tensors, header)


def write_normal(weights: Weights, path: Path | str, dtype: Literal["float32", "float16"] = "float32") -> None:
    """Write the normal form; ``path`` appears complete or not at all. Equal weights give equal bytes.

    ``dtype`` float16 rounds the weights of layers: what is read back is :func:`rounded_to_float16` of what was given.
    """
    path = Path(path)
    stored = dict(weights.tensors)
    if dtype == "float16":
        weights = rounded_to_float16(weights)
        stored = {n: t.half() if np.float16 in _widths(n) else t for n, t in weights.tensors.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors makes files that only their owner can read
        save_file(stored, temporary, metadata={KEY: weights.header.to_json()})
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError | SafetensorError):
            raise WeightsError(f"{path} cannot be written: {error}", "give a path in a folder with room") from None
        raise


def _widths(name: str) -> tuple[type[np.floating[Any]], ...]:
    """The types in which a file may hold a tensor: weights of layers (not of norms) also by halves."""
    layer = name.endswith(".weight") and not name.endswith(".norm.weight")
    return (np.float32, np.float16) if layer else (np.float32,)
