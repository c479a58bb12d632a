"""Records of pictures that are in no store: an extractor, and a picture given as a path, a URL, or pixels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from featx.decode import Policy, decode
from featx.errors import PictureRefused, UsageError
from featx.extractor import Extractor, Picture
from featx.images.source import Blob
from featx.record import Record
from featx.registry import load

Pixels = np.ndarray[Any, np.dtype[Any]]

# Where the usual advice is about a list of pictures.
_HINTS = {"missing": "check the path", "not-an-image": "name a photo: a JPEG, PNG, WebP, ... file"}


class Live:
    """An extractor for one picture at a time."""

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor

    @classmethod
    def of(cls, recipe: Mapping[str, Any] | None, **changes: Any) -> Live:
        """The extractor of a model: ``{"name": ..., "options": {...}}`` in its ``featx.json``; ``changes`` win.

        Raises UsageError when there is no recipe, and what the extractor raises, WeightsError above all.
        """
        if recipe is None and "name" not in changes:
            raise UsageError(
                "the model does not say which extractor made its features, so it cannot be shown a photo",
                "extract the photo into a store, or name the extractor and its options",
            )
        known = recipe or {}
        name = str(changes.pop("name", None) or known["name"])
        options = dict(known.get("options") or {}) if name == known.get("name") else {}
        kind = load("featx.extractors", name)
        return cls(cast(Extractor, kind.from_options({**options, **changes})))

    def record(self, pixels: Pixels) -> Record:
        """The regions of a picture, uint8 RGB ``[H, W, 3]``. Raises PictureRefused."""
        return self.extractor([self.extractor.prepare(Picture("picture", pixels))])[0]


def pixels_of(picture: Any) -> Pixels:
    """uint8 RGB ``[H, W, 3]``, upright, of a path, a URL, a PIL image or such an array.

    Raises PictureRefused for a file that is no picture, UsageError for what is none of these.
    """
    if isinstance(picture, str | os.PathLike):
        name = os.fspath(picture)
        blob = Blob(name if "://" in name else str(Path(name).expanduser()))
        try:
            return decode(blob.read(), Policy())
        except PictureRefused as refusal:
            hint = _HINTS.get(refusal.reason, refusal.hint)
            raise PictureRefused(
                refusal.reason, f"{name} is no picture to ask about: {refusal.message}", hint
            ) from None
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise UsageError(
                f"the picture is an array {picture.dtype}{list(picture.shape)}", "give uint8 [H, W, 3] in RGB"
            )
        return np.ascontiguousarray(picture)
    if hasattr(picture, "convert") and hasattr(picture, "getexif"):
        return _of_pil(picture)
    raise UsageError(
        f"a picture cannot be read from {type(picture).__name__}", "give a path, a URL, a PIL image or an RGB array"
    )


def _of_pil(image: Any) -> Pixels:
    """Upright, and over white where it is transparent, as files are decoded."""
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        over = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return np.ascontiguousarray(np.asarray(upright.convert("RGB"), np.uint8))
