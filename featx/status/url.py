"""How a store behind a URL stands, by what was pushed or published there."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from featx.care.pull import PUSHING
from featx.care.remote import Remote
from featx.care.transfer import folder_name
from featx.errors import StoreDamaged, StoreError
from featx.status.folder import block, missed
from featx.status.part import PartStatus, beating, finished
from featx.status.whole import StoreStatus
from featx.store import Manifest, PartManifest
from featx.store.pulse import FILE, Pulse

STALE = 120.0  # as of a part in a folder; pulses are sent more rarely than they are written
_AT_ONCE = 16  # files that are asked for


class UrlWatch:
    """Looks at one copy again and again; a part that is finished there is read once."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self._finished: dict[int, PartStatus] = {}

    def look(self) -> StoreStatus:
        """As it is now. Raises StoreError for what is no store, or cannot be read."""
        manifest = self._manifest()
        files = self.remote.files("parts")
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            parts = list(pool.map(lambda part: self._part(manifest, part, files), range(manifest.parts)))
        if manifest.complete != all(part.state == "done" for part in parts):
            manifest = self._manifest()  # the last one may have been published meanwhile
        return StoreStatus(self.remote.url, manifest, missed(manifest, parts))

    def _manifest(self) -> Manifest:
        """That of the store; until all of it is there, that which a push or a publishing left."""
        data = self.remote.read("manifest.json")
        if data is not None:
            return Manifest.read(data, f"{self.remote.url}/manifest.json")
        mark = self.remote.read(PUSHING)
        if mark is None:
            data = self.remote.read("manifest.json")  # a mark goes when the manifest comes
            if data is not None:
                return Manifest.read(data, f"{self.remote.url}/manifest.json")
            raise StoreError(
                f"there is no store at {self.remote.url}: it has no manifest.json",
                "check the URL: it names the folder that holds manifest.json",
            )
        try:
            return Manifest.read(json.loads(mark)["manifest"].encode(), f"{self.remote.url}/{PUSHING}")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreError(
                f"a push to {self.remote.url} is under way, or was interrupted; what it sends cannot be told yet",
                "wait for it, or run that `featx push` again",
            ) from None

    def _part(self, manifest: Manifest, part: int, files: set[str] | None) -> PartStatus:
        if part in self._finished:
            return self._finished[part]
        folder = folder_name(part, manifest)
        try:
            data = self._read(f"{folder}/part.json", files)
            if data is not None:
                self._finished[part] = finished(PartManifest.read(data, f"{self.remote.url}/{folder}/part.json"))
                return self._finished[part]
        except StoreDamaged as error:
            return PartStatus(part, "failed", total=block(manifest, part), why=error.message)
        data = self._read(f"{folder}/{FILE}", files)
        pulse = None if data is None else Pulse.read(data)
        if pulse is not None:
            return beating(part, pulse, time.time() - pulse.time, {}, STALE)
        begun = files is not None and any(name.startswith(f"{folder}/") for name in files)
        told = PartStatus(part, "not begun", total=block(manifest, part))
        return replace(told, state="stopped", why="not all of it was sent") if begun else told

    def _read(self, name: str, files: set[str] | None) -> bytes | None:
        return self.remote.read(name) if files is None or name in files else None
