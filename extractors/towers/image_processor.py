"""``preprocessor_config.json``, as transformers reads it, of switches of preprocessing."""

from __future__ import annotations

from typing import Any

from featx_extractors.towers.resizing import FILTERS, Resizing


def image_processor(how: Resizing) -> dict[str, Any]:
    """Settings of a CLIPImageProcessor that prepares pictures as ``how`` does; inverse of ``resizing.published``."""
    size = {"shortest_edge": how.short} if how.size is None else dict(zip(("height", "width"), how.size, strict=True))
    crop = how.crop and dict(zip(("height", "width"), how.crop, strict=True))
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": size,
        "resample": FILTERS.index(how.filter),
        "do_center_crop": crop is not None,
        **({"crop_size": crop} if crop else {}),
        "do_rescale": True,
        "rescale_factor": how.scale,
        "do_normalize": True,
        "image_mean": list(how.mean),
        "image_std": list(how.std),
    }
