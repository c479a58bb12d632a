"""Foreign formats, behind one contract (``base``). Nothing is imported until it is asked for.

===========  =====================================================================================
``lines``    a line per picture: LXMERT, bottom-up attention, Oscar, VinVL
``lmdb``     an LMDB environment: ViLBERT, volta, MMF, UNITER
``hdf5``     an HDF5 file: hengyuan-hu, ban-vqa, volta; and how a damaged one is read
``folders``  a file or a few per picture: MILVLG, UNITER, MMF, self-critical, grid-feats
``tables``   Arrow and Parquet, for ``datasets``, and the LXMERT demo's Arrow
``packed``   safetensors and WebDataset
``values``   how single values are written: pickles, npy, npz, torch tensors, msgpack
===========  =====================================================================================

Inside, imports go one way: options < base, records < what formats share < the formats; importer uses the contract.
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
    "lxmert-tsv": "featx.formats.lines.lxmert:LxmertTsv",
    "butd-tsv": "featx.formats.lines.butd:ButdTsv",
    "oscar-tsv": "featx.formats.lines.oscar:OscarTsv",
    "vinvl-tsv": "featx.formats.lines.vinvl:VinvlTsv",
    "vilbert-lmdb": "featx.formats.lmdb.vilbert:VilbertLmdb",
    "vilbert-beta-lmdb": "featx.formats.lmdb.vilbert:VilbertBetaLmdb",
    "volta-lmdb": "featx.formats.lmdb.volta:VoltaLmdb",
    "volta-npy-lmdb": "featx.formats.lmdb.volta:VoltaNpyLmdb",
    "mmf-lmdb": "featx.formats.lmdb.mmf:MmfLmdb",
    "mmf-npy": "featx.formats.folders.mmf:MmfNpy",
    "self-critical": "featx.formats.folders.self_critical:SelfCritical",
    "grid-feats-pth": "featx.formats.folders.grid_feats:GridFeats",
    "bua-npz": "featx.formats.folders.bua:BuaNpz",
    "uniter-lmdb": "featx.formats.lmdb.uniter:UniterLmdb",
    "uniter-npz": "featx.formats.folders.uniter:UniterNpz",
    "volta-hdf5": "featx.formats.hdf5.volta:VoltaHdf5",
    "vqa-hdf5-fixed": "featx.formats.hdf5.vqa:VqaHdf5Fixed",
    "vqa-hdf5-adaptive": "featx.formats.hdf5.vqa:VqaHdf5Adaptive",
    "safetensors": "featx.formats.packed.safetensors:Safetensors",
    "parquet": "featx.formats.tables.parquet:Parquet",
    "arrow": "featx.formats.tables.arrow:Arrow",
    "hf-frcnn-arrow": "featx.formats.tables.frcnn:HfFrcnnArrow",
    "webdataset": "featx.formats.packed.webdataset:WebDataset",
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
