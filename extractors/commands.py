"""``featx weights import|inspect``, offered to the command line by entry point."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from featx.cli.output import add_json, print_json, table
from featx.errors import UsageError, WeightsError

OF_A_DETECTOR = ("objects", "attributes", "profile", "anchors", "delta_weights")


def configure_weights(parser: argparse.ArgumentParser) -> None:
    """read weights of a detector or a vision tower, of any known layout (inspect, import)."""
    parser.description = (
        "Read detector weights of any known layout, and write them in featx's own; or take the vision tower out of a "
        "checkpoint: of a CLIP, of VLE, of CLIP-Vision-BERT, ..."
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    reader = actions.add_parser("inspect", help="say what a file of weights is and what was detected")
    reader.add_argument("weights", help="file, folder or hub id")
    add_json(reader)
    reader.set_defaults(run=run_inspect)
    writer = actions.add_parser("import", help="write a .safetensors file in the normal form, or a tower's folder")
    writer.add_argument(
        "weights",
        help="file, folder or hub id: Hugging Face, airsplay, MILVLG, detectron2 or Caffe; or with a vision tower",
    )
    writer.add_argument("out", help="file to write, OUT.safetensors; folder to write, of a vision tower")
    writer.add_argument("--objects", help="vocabulary file, one object name per line")
    writer.add_argument("--attributes", help="vocabulary file, one attribute name per line")
    writer.add_argument("--profile", help="parity profile the weights belong to, if not the detected one")
    writer.add_argument("--anchors", choices=("caffe", "detectron2"), help="anchors of a file that has none")
    writer.add_argument("--delta-weights", type=float, nargs=4, metavar="W", help="of the box deltas, if known better")
    writer.add_argument("--expect-sha256", help="refuse the source, or the tower, unless it has this hash")
    writer.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    add_json(writer)
    writer.set_defaults(run=run_import)


def run_inspect(options: argparse.Namespace) -> None:
    """Report on weights."""
    from featx_extractors.towers.transfer import holds_tower, inspect_tower
    from featx_extractors.weights import inspect_weights

    if holds_tower(options.weights):
        show_tower(inspect_tower(options.weights), options)
        return
    with as_tower_or_detector():
        report = inspect_weights(options.weights)
    show(report, options)


@contextmanager
def as_tower_or_detector() -> Iterator[None]:
    """What the reader of detectors refuses may have been meant as a vision tower."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(
            error.message, f"{error.hint}; a vision tower is known by the config.json beside its weights"
        ) from None


def run_import(options: argparse.Namespace) -> None:
    """Convert weights and report."""
    from featx_extractors.towers.transfer import holds_tower, import_tower
    from featx_extractors.weights import import_weights

    if holds_tower(options.weights):
        if given := next((name for name in OF_A_DETECTOR if getattr(options, name) is not None), None):
            raise UsageError(
                f"--{given.replace('_', '-')} is given, and {options.weights} is a vision tower", "leave it out"
            )
        report = import_tower(
            options.weights, options.out, expect_sha256=options.expect_sha256, overwrite=options.overwrite
        )
        show_tower(report, options)
        return
    with as_tower_or_detector():
        report = import_weights(
            options.weights, options.out, objects=options.objects, attributes=options.attributes,
            expect_sha256=options.expect_sha256, profile=options.profile, overwrite=options.overwrite,
            anchors=options.anchors, delta_weights=tuple(options.delta_weights) if options.delta_weights else None,
        )  # fmt: skip
    show(report, options)


def show_tower(report: dict[str, Any], options: argparse.Namespace) -> None:
    """The report on a vision tower, as JSON or as lines."""
    from featx_extractors.towers.transfer import lines_of

    if options.json:
        print_json(report)
        return
    print(table(lines_of(report)))
    for note in report["notes"]:
        print(f"note: {note}")


def show(report: dict[str, Any], options: argparse.Namespace) -> None:
    """The report, as JSON or as lines."""
    if options.json:
        print_json(report)
        return
    header, size = report["header"], report["architecture"]
    file = report.get("file") or {}
    rows: list[tuple[str, ...]] = [
        ("file", f"{file.get('path', 'made from a seed')}  {file.get('container', '')}"),
        ("sha256", str(file.get("sha256", header["sha256"]))),
        ("layout", f"{header['layout']}, from {header['source']}"),
        ("network", f"ResNet-{size['depth'] or '?'}-C4, {report['parameters']:,} numbers, {report['tensors']} tensors"),
        ("classes", f"{header['classes']} objects, {header['attribute_classes']} attributes, {size['dim']}-d features"),
        ("trained", "yes" if header["trained"] else "NO: labels and boxes mean nothing"),
        ("anchors", f"{header['anchors']}, {size['anchors']} a cell"),
        ("box deltas", f"divided by {header['delta_weights']} ({header['delta_weights_from']})"),
        ("profile", header["profile"]),
    ]
    rows += [(f"{name} names", ", ".join(names[:6]) + ", ..." if names else "unknown: give --objects, --attributes")
             for name, names in report["labels"].items()]  # fmt: skip
    print(table(rows))
    for note in header["notes"]:
        print(f"note: {note}")
