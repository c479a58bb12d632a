"""The optional packages behind networks and words, imported when first needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from featx.errors import MissingDependency


def transformers() -> Any:
    """The package transformers, which holds the network. Raises MissingDependency."""
    return _package("transformers", "the networks are those of transformers, which is not installed")


def tokenizers() -> Any:
    """The package tokenizers, which cuts questions into word pieces. Raises MissingDependency."""
    return _package("tokenizers", "a question is cut into word pieces by the package tokenizers, which is absent")


def _package(name: str, missing: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependency(f"{missing} ({error})", "pip install 'featx[lxmert]'") from None
