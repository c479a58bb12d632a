"""How an extraction stands: parts done, running, stopped, failed and not begun, how fast it goes, and how long yet.

It is told by what lies in the store, from any machine that sees its folder or the URL that it is published to, while it
is written and afterwards. Nothing is locked or written. Inside, imports go one way: part < whole < folder < url.
"""

from __future__ import annotations

import os
from pathlib import Path

from featx.care.pull import PUSHING
from featx.care.remote import Remote
from featx.status.folder import FolderWatch
from featx.status.part import PartStatus
from featx.status.url import UrlWatch
from featx.status.whole import StoreStatus

__all__ = ["PartStatus", "StoreStatus", "status", "watch"]


def watch(place: str | os.PathLike[str]) -> FolderWatch | UrlWatch:
    """What looks at the store in a folder, or behind a URL of fsspec, as often as its ``look`` is called."""
    folder = Path(place)
    if isinstance(place, str) and "://" in place and not folder.exists():
        remote = Remote(place)
        if remote.folder is None:
            return UrlWatch(remote)
        folder = Path(remote.folder)
    if (folder / PUSHING).exists() and not (folder / "manifest.json").exists():
        return UrlWatch(Remote(str(folder)))  # of which only what was published is here
    return FolderWatch(folder)


def status(place: str | os.PathLike[str]) -> StoreStatus:
    """How the store in the folder, or behind the URL, ``place`` stands now. Raises StoreError for what is no store."""
    return watch(place).look()
