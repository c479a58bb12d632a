"""How far every precision is from float32, at the boxes that float32 chooses.

Seeded full-size weights look at photos, the shipped tiny ones at drawn scenes. On a CPU the only other precision is
bfloat16, on a GPU there are TF32 and float16, too. PHOTOS=n and SCENES=n say how many pictures.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.timing import save, table
from featx.decode import Policy, decode
from featx.errors import UsageError
from featx.extractor import Picture
from featx.scenes import write_scenes
from featx_extractors.deviation import deviation
from featx_extractors.frcnn import FRCNN
from featx_extractors.precision import FLOAT32, PRECISIONS

Pixels = np.ndarray[Any, np.dtype[Any]]


def main() -> None:
    """Measure, print, save."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows, results = [("weights", "precision", "pictures", "regions", *HEADS)], {}
    for weights, pictures in (
        ("seeded", list(photos(int(os.environ.get("PHOTOS", "3"))))),
        ("tiny", list(scenes(int(os.environ.get("SCENES", "20"))))),
    ):
        for name in possible(device):
            found = measured(weights, name, device, pictures)
            results[f"{weights} {name}"] = found
            rows.append((weights, name, str(len(pictures)), *line(found)))
    print(table(rows))
    print(f"\non {device}; written to {save('precision', results)}")


HEADS = ("largest error", "mean error", "mean feature", "least cosine", "confidence error", "same id")


def possible(device: str) -> list[str]:
    """What can be asked for on the device, but float32."""
    names = []
    for name, precision in PRECISIONS.items():
        try:
            precision.check(torch.device(device))
        except UsageError:
            continue
        names += [name] if precision != FLOAT32 else []
    return names


def photos(number: int) -> Iterator[Pixels]:
    """Photographs of scikit-image, 640 wide or high."""
    from skimage import data

    for photo in (data.coffee(), data.astronaut(), data.chelsea(), data.rocket())[:number]:
        scale = 640 / max(photo.shape[:2])
        yield cv2.resize(np.ascontiguousarray(photo), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def scenes(number: int) -> Iterator[Pixels]:
    """Drawn scenes that the tiny weights were not trained on."""
    with tempfile.TemporaryDirectory() as folder:
        write_scenes(Path(folder), 1, number, 4711, ["en"], workers=1)
        for path in sorted(Path(folder, "val").iterdir()):
            yield decode(path.read_bytes(), Policy())


def measured(weights: str, precision: str, device: str, pictures: Sequence[Pixels]) -> dict[str, float]:
    """The worst and the mean over all pictures that have a region."""
    options = {"weights": weights, "device": device, "dtype": "float32"}
    exact = FRCNN.from_options({**options, "precision": "float32"})
    tested = FRCNN.from_options({**options, "precision": precision})
    found = []
    for pixels in pictures:
        prepared = exact.prepare(Picture("p", pixels))
        found.append(deviation(tested.detector, exact.detector, prepared.pixels, prepared.frame))
    return combined([each for each in found if each["regions"]])


def combined(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Figures of several pictures as one: extremes of extremes, means weighted by regions."""
    regions = [each["regions"] for each in found]

    def mean(name: str) -> float:
        return statistics.fmean([each[name] for each in found], regions)

    return {
        "regions": sum(regions),
        **{name: max(each[name] for each in found) for name in ("largest_error", "largest_confidence_error")},
        **{name: mean(name) for name in ("mean_error", "mean_feature", "same_object_id")},
        "least_cosine": min(each["least_cosine"] for each in found),
    }


def line(found: dict[str, float]) -> tuple[str, ...]:
    """One row as text."""
    return (
        f"{found['regions']:.0f}", f"{found['largest_error']:.3g}", f"{found['mean_error']:.2g}",
        f"{found['mean_feature']:.3g}", f"{found['least_cosine']:.6f}", f"{found['largest_confidence_error']:.2g}",
        f"{found['same_object_id']:.2%}",
    )  # fmt: skip
