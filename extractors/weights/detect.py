"""Loading weights of any layout: find the file, check its hash, read it, put it in the normal form, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from featx.errors import WeightsError
from featx.labels import Labels, read_labels
from featx_extractors.anchors import Generator, family
from featx_extractors.profiles import get_profile
from featx_extractors.weights import airsplay, caffe, hf, milvlg
from featx_extractors.weights import conventions as rules
from featx_extractors.weights.architecture import CELL_ANCHORS, Architecture
from featx_extractors.weights.checkpoint import UNIT, Checkpoint, Weights4, weights4
from featx_extractors.weights.container import Container, check_sha256, container, file_sha256
from featx_extractors.weights.hub import Place, locate
from featx_extractors.weights.normal import (
    KEY,
    Header,
    Weights,
    anchors_sha256,
    from_arrays,
    shapes_of,
    tensors_sha256,
    write_normal,
)
from featx_extractors.weights.pickles import load_torch
from featx_extractors.weights.seeded import seeded_location

# The profile a layout's own program corresponds to.
PROFILES = {
    "huggingface": "hf-demo-fixed",
    "airsplay": "airsplay-maxnms",
    "detectron2": "detectron2-c4",
    "milvlg": "milvlg-36",
    "caffe": "caffe-36",
}
_RPN_PREFIX = "proposal_generator."


def load_weights(
    location: str | Path,
    *,
    expect_sha256: str | None = None,
    labels: Mapping[str, Labels | None] | None = None,
    anchors: Generator | None = None,
    delta_weights: Weights4 | None = None,
) -> Weights:
    """Weights of a file, a folder, or a hub id ``org/name[@revision]``, in the normal form.

    Layouts: the normal form itself, Hugging Face (``.bin``, safetensors), airsplay and detectron2 (``.pkl``, ``.pth``),
    MILVLG (``.pth``), Caffe (``.caffemodel``). ``tiny`` is the small detector that comes with the package, trained on
    drawn scenes. ``seeded`` and ``seeded-tiny`` give untrained weights, see :func:`seeded_weights`.
    ``expect_sha256`` is that of the file. ``labels`` maps ``objects`` and ``attributes`` to vocabulary files or
    sequences of names. ``anchors`` and ``delta_weights`` state what a foreign file leaves open.

    No file is trusted: nothing in it is executed, and every tensor is checked for name, shape and finiteness.
    Raises WeightsError, and MissingDependency for a hub id without the package huggingface_hub.
    """
    weights = seeded_location(str(location))
    if weights is not None and expect_sha256 is not None:
        raise WeightsError(f"{location} is made from a seed and has no file to hash", "leave out the expected sha256")
    if weights is None:
        weights = _load(locate(str(location)), expect_sha256, anchors, delta_weights)[0]
    return _labelled(weights, labels or {})


def import_weights(
    source: str | Path,
    out: str | Path,
    *,
    objects: Labels | None = None,
    attributes: Labels | None = None,
    expect_sha256: str | None = None,
    profile: str | None = None,
    anchors: Generator | None = None,
    delta_weights: Weights4 | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the normal form of ``source`` to ``out`` (a ``.safetensors`` file) and return the report on it.

    The report is that of :func:`inspect_weights` for the written file. Raises WeightsError, also when ``out`` exists.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise WeightsError(f"{out} is no .safetensors file", "name the output OUT.safetensors")
    if out.exists() and not overwrite:
        raise WeightsError(f"{out} exists", "choose another name, or allow overwriting")
    labels = {"objects": objects, "attributes": attributes}
    weights = load_weights(
        source, expect_sha256=expect_sha256, labels=labels, anchors=anchors, delta_weights=delta_weights
    )
    if profile is not None:
        weights = replace(weights, header=replace(weights.header, profile=get_profile(profile).name))
    write_normal(weights, out)
    return inspect_weights(out)


def inspect_weights(location: str | Path) -> dict[str, Any]:
    """What is known of weights, as plain JSON: file, container, architecture, header, notes. Raises WeightsError."""
    seeded = seeded_location(str(location))
    if seeded is not None:
        return _report(seeded)
    place = locate(str(location))
    weights, kind, digest = _load(place, None, None, None)
    file = {"path": str(place.path), "bytes": place.path.stat().st_size, "sha256": digest, "container": kind}
    return {"file": file, "hub_id": place.hub_id, **_report(weights)}


def _report(weights: Weights) -> dict[str, Any]:
    header = weights.header.to_dict()
    labels = {name: header.pop(name) for name in ("objects", "attributes")}
    return {
        "architecture": weights.architecture.to_dict(),
        "tensors": len(weights.tensors),
        "parameters": sum(tensor.numel() for tensor in weights.tensors.values()),
        "header": header,
        "labels": labels,
        "fingerprint": weights.header.fingerprint,
    }


def _load(
    place: Place,
    expect_sha256: str | None,
    anchors: Generator | None,
    delta_weights: Weights4 | None,
) -> tuple[Weights, Container, str]:
    """Weights of a file, its container and its sha256."""
    path = place.path
    try:
        kind, digest = container(path), file_sha256(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}", "check the path and its permissions") from None
    check_sha256(path, digest, expect_sha256)
    given = None if delta_weights is None else weights4(delta_weights, "delta_weights")
    if kind == "safetensors":
        arrays, metadata = hf.read_safetensors(path)
        if KEY in metadata:
            weights = from_arrays(arrays, Header.from_json(metadata[KEY], str(path)), path)
            return _restated(weights, anchors, given), kind, digest
        checkpoint = _named(hf.checkpoint(arrays), path)
    else:
        checkpoint = _read(path, kind)
    if place.config is not None and checkpoint.layout not in ("milvlg", "caffe"):  # their anchors are in other units
        checkpoint = replace(checkpoint, config=hf.read_config(place.config))
    if place.hub_id is not None:
        checkpoint = replace(checkpoint, notes=(f"from the hub: {place.hub_id}", *checkpoint.notes))
    return normalise(checkpoint, path, digest, anchors, given), kind, digest


def _read(path: Path, kind: Container) -> Checkpoint:
    if kind == "protobuf":
        return caffe.read(path)
    return _named(airsplay.read(path) if kind == "pickle" else hf.checkpoint(load_torch(path)), path)


def _named(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """The checkpoint under the normal form's names. Raises WeightsError for names of no known layout."""
    names = checkpoint.arrays
    if milvlg.is_milvlg(names):
        return milvlg.rename(checkpoint, path)
    if not any(name.startswith(("backbone.stem.", "backbone.res", _RPN_PREFIX, "roi_heads.")) for name in names):
        raise WeightsError(
            f"{path} is of no known layout: its {len(names)} tensors are called {', '.join(list(names)[:4])}, ...",
            "known are Hugging Face frcnn-vg-finetuned, airsplay, MILVLG (bua-caffe), detectron2 C4 and Caffe",
        )
    return checkpoint


def normalise(
    checkpoint: Checkpoint, path: Path, digest: str, anchors: Generator | None = None, given: Weights4 | None = None
) -> Weights:
    """The normal form of a checkpoint: every convention detected, checked, and noted in the header."""
    file = str(path)
    arrays, notes = rules.as_float32(checkpoint.arrays, file)
    arrays, first = rules.background_last(arrays, file)
    arrays, pairs = rules.single_objectness(arrays, file)
    arrays, more = rules.with_anchors(arrays, checkpoint, anchors, file)
    notes += more
    architecture = Architecture.of(shapes_of(arrays), file)
    architecture.check(shapes_of(arrays), file)
    deltas, origin, more = rules.delta_weights(arrays, checkpoint, given)
    cell = arrays[CELL_ANCHORS]
    notes += [*more, *rules.contradictions(checkpoint.config, architecture, cell)]
    notes.append(f"background {'first, moved behind the classes' if first else 'last'}")
    notes.append(f"objectness {'pairs, replaced by their difference' if pairs else 'as one logit per anchor'}")
    tensors, kind = rules.own(arrays), family(cell)
    header = Header(
        layout=checkpoint.layout,
        source=path.name,
        source_sha256=digest,
        sha256=tensors_sha256(tensors),
        classes=architecture.classes,
        attribute_classes=architecture.attributes,
        delta_weights=deltas,
        delta_weights_from=origin,
        rpn_delta_weights=weights4(checkpoint.config.get("rpn_delta_weights", UNIT), "rpn.bbox_reg_weights"),
        anchors=kind,
        anchors_sha256=anchors_sha256(cell),
        legacy_plus_one=kind == "caffe",
        profile=PROFILES[checkpoint.layout],
        config=checkpoint.config,
        notes=(*checkpoint.notes, *notes),
    )
    return Weights(tensors, header)


def _restated(weights: Weights, anchors: Generator | None, given: Weights4 | None) -> Weights:
    """The normal form with delta weights that a person states; its anchors are beyond doubt."""
    if anchors not in (None, weights.header.anchors):
        raise WeightsError(
            f"{weights.header.source} stores {weights.header.anchors} anchors, but {anchors} anchors were asked for",
            "leave the anchors to the file",
        )
    if given is None:
        return weights
    return replace(weights, header=replace(weights.header, delta_weights=given, delta_weights_from="given"))


def _labelled(weights: Weights, labels: Mapping[str, Labels | None]) -> Weights:
    """The weights with names. Raises UsageError for a vocabulary that does not fit."""
    unknown = set(labels) - {"objects", "attributes"}
    if unknown:
        raise WeightsError(f"labels of {', '.join(sorted(unknown))} are unknown", "give objects and attributes")
    counts = {"objects": weights.header.classes, "attributes": weights.header.attribute_classes}
    read = {name: read_labels(source, name, counts[name]) for name, source in labels.items() if source is not None}
    return weights.with_labels(read.get("objects"), read.get("attributes"))
