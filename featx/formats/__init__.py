"""Foreign formats: one module each, behind one contract (``base``). Nothing is imported until it is asked for.

Inside, imports go one way: options < base, records < the formats; importer uses the contract alone.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

from featx import registry
from featx.errors import UsageError
from featx.formats.base import Format, Item, Survey
from featx.formats.options import Options
from featx.formats.records import Records

__all__ = ["FORMATS", "GROUP", "Format", "Item", "Options", "Records", "Survey", "detect", "get", "names"]

GROUP = "featx.formats"  # entry points through which another package adds a format
FORMATS = {
    "lxmert-tsv": "featx.formats.lxmert_tsv:LxmertTsv",
    "butd-tsv": "featx.formats.butd_tsv:ButdTsv",
    "oscar-tsv": "featx.formats.oscar_tsv:OscarTsv",
    "vinvl-tsv": "featx.formats.vinvl_tsv:VinvlTsv",
    "vilbert-lmdb": "featx.formats.vilbert:VilbertLmdb",
    "vilbert-beta-lmdb": "featx.formats.vilbert:VilbertBetaLmdb",
    "volta-lmdb": "featx.formats.volta_lmdb:VoltaLmdb",
    "volta-npy-lmdb": "featx.formats.volta_lmdb:VoltaNpyLmdb",
    "mmf-lmdb": "featx.formats.mmf_lmdb:MmfLmdb",
    "mmf-npy": "featx.formats.mmf_npy:MmfNpy",
    "self-critical": "featx.formats.self_critical:SelfCritical",
    "bua-npz": "featx.formats.bua_npz:BuaNpz",
    "uniter-lmdb": "featx.formats.uniter_lmdb:UniterLmdb",
    "uniter-npz": "featx.formats.uniter_npz:UniterNpz",
    "volta-hdf5": "featx.formats.volta_hdf5:VoltaHdf5",
    "vqa-hdf5-fixed": "featx.formats.vqa_hdf5:VqaHdf5Fixed",
    "vqa-hdf5-adaptive": "featx.formats.vqa_hdf5:VqaHdf5Adaptive",
    "safetensors": "featx.formats.safetensors:Safetensors",
    "parquet": "featx.formats.parquet:Parquet",
    "arrow": "featx.formats.arrow:Arrow",
    "hf-frcnn-arrow": "featx.formats.hf_frcnn_arrow:HfFrcnnArrow",
    "webdataset": "featx.formats.webdataset:WebDataset",
}


def names() -> list[str]:
    """All formats, ours first."""
    return [*FORMATS, *sorted({e.name for e in registry.plugins(GROUP)} - set(FORMATS))]


@cache
def get(name: str) -> Format:
    """The format called ``name``. Raises UsageError for an unknown one, MissingDependency for its package."""
    if name in FORMATS:
        module, _, kind = FORMATS[name].partition(":")
        found = getattr(import_module(module), kind)()
    elif name in names():
        found = registry.load(GROUP, name)()
    else:
        raise UsageError(f"there is no format {name!r}", f"known: {', '.join(names())}; `featx formats` tells more")
    assert isinstance(found, Format)
    return found


def detect(path: Path) -> list[Format]:
    """The formats whose structure ``path`` has."""
    return [form for form in map(get, names()) if form.reads and form.detect(path)]
