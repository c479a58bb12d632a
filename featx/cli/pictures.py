"""The picture behind a key of a store, found again among the pictures it was extracted from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featx.codec import store_key
from featx.decode import Policy, decode
from featx.errors import UsageError
from featx.images import list_pictures

if TYPE_CHECKING:
    import numpy as np

    from featx.store import Manifest


def find_picture(
    key: str,
    manifest: Manifest,
    images: str,
    *,
    key_rule: str | None = None,
    root: str | None = None,
    image_name: str | None = None,
) -> np.ndarray[Any, np.dtype[Any]]:
    """uint8 RGB ``[H, W, 3]`` of ``key`` among ``images`` (what was given to ``featx extract``), decoded as there.

    key_rule: by default the store's own. Raises UsageError when none of the pictures has that key, PictureRefused.
    """
    rule = key_rule or manifest.provenance.get("key_rule", "stem")
    listing = list_pictures(images, root=root, key_rule=rule, image_name=image_name)
    sources = {store_key(s.key): s for s in listing}  # as the store compares them: one name has several spellings
    wanted = store_key(key)
    if wanted not in sources:
        some = ", ".join(s.key for s in list(sources.values())[:3])
        raise UsageError(
            f"{images} has no picture with the key {key!r} under the rule {rule!r}; it has {some}, ...",
            "give the same pictures as for the extraction, or another --key-rule",
        )
    decoder = manifest.provenance.get("decoder", {})
    return decode(sources[wanted].read(), Policy(salvage_tail=bool(decoder.get("salvage_tail"))))
