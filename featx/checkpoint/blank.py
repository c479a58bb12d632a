"""Networks without weights, as a ``config.json`` describes them, to be filled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from featx.errors import FeatxError, WeightsError


@contextmanager
def blank(where: str) -> Iterator[None]:
    """What is built here lies on the meta device, which costs neither time nor random numbers.

    Raises WeightsError, naming ``where``, when the libraries cannot build what a ``config.json`` says: sizes of another
    type, heads that do not divide the width, a section without its sizes.
    """
    try:
        with torch.device("meta"):
            yield
    except FeatxError:
        raise
    except KeyError as error:
        raise WeightsError(f"the config.json of {where} lacks {error}", "get a complete copy") from None
    except Exception as error:  # the libraries' checks of configurations have no class in common
        told = " ".join(str(error).split())
        raise WeightsError(f"the config.json of {where} makes no network: {told}", "get an unaltered copy") from None
