"""Weights of the bottom-up-attention Faster R-CNN: five layouts in, one normal form out."""

from featx_extractors.weights.architecture import Architecture
from featx_extractors.weights.detect import import_weights, inspect_weights, load_weights
from featx_extractors.weights.normal import Header, Weights, read_normal, write_normal
from featx_extractors.weights.seeded import FULL, TINY, seeded_weights

__all__ = [
    "FULL",
    "TINY",
    "Architecture",
    "Header",
    "Weights",
    "import_weights",
    "inspect_weights",
    "load_weights",
    "read_normal",
    "seeded_weights",
    "write_normal",
]
