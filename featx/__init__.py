"""featx: region features of photos, exactly as published; extract, store, read back, learn from them, ask.

>>> store = featx.open_store("photos.featx")
>>> store["COCO_val2014_000000000042"].features.shape
(36, 2048)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from featx.captioner import Captioner
    from featx.chooser import Chooser
    from featx.errors import FeatxError
    from featx.extractor import Extractor
    from featx.grounder import Grounder
    from featx.loading import FeatureDataset, FeatureLoader
    from featx.matcher import Matcher
    from featx.predictor import Predictor
    from featx.record import Record, RecordBatch
    from featx.schema import Schema
    from featx.spread import extract
    from featx.store import open_store
    from featx.task import Task

# Where each public name lives; imported when first used, so that `import featx` costs nothing and loads no torch.
_HOME = {
    "open_store": "featx.store",
    "extract": "featx.spread",
    "Record": "featx.record",
    "RecordBatch": "featx.record",
    "Schema": "featx.schema",
    "Extractor": "featx.extractor",
    "FeatureDataset": "featx.loading",
    "FeatureLoader": "featx.loading",
    "Predictor": "featx.predictor",
    "Captioner": "featx.captioner",
    "Chooser": "featx.chooser",
    "Matcher": "featx.matcher",
    "Grounder": "featx.grounder",
    "Task": "featx.task",
    "FeatxError": "featx.errors",
}

__all__ = [
    "Captioner", "Chooser", "Extractor", "FeatureDataset", "FeatureLoader", "FeatxError", "Grounder", "Matcher",
    "Predictor", "Record", "RecordBatch", "Schema", "Task", "__version__", "extract", "open_store",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'featx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
