"""A store as torch's DataLoader wants it, for people who have one already.

Worker processes cannot hand over what they read without copying it into fresh shared memory, and every page of that is
a page fault; ``FeatureLoader`` reads into memory that is there, in a thread, and is some ten times as fast.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from torch import Tensor
from torch.utils.data import Dataset

from featx.loading.ring import Boxes, Dtype
from featx.record import RecordBatch
from featx.store import StoreReader, open_store


class FeatureDataset(Dataset[dict[str, Tensor]]):
    """Records of a store by the number of their example, one by one or, much faster, a batch at a time.

    >>> dataset = FeatureDataset("train.featx", keys)
    >>> loader = DataLoader(dataset, batch_size=256, shuffle=True, num_workers=4, collate_fn=dataset.collate)

    A DataLoader that is given ``collate`` (with ``batch_size`` or ``batch_sampler``) yields a
    :class:`featx.record.RecordBatch`; ``pin_memory=True`` works. Without it, a mapping of the same tensors, which torch
    has cut up and copied together again. With ``batch_size=None`` it yields single examples.

    store: its path, or a reader. keys: one for each example, with repeats; by default all of the store. dtype, boxes
    and fields: as in :meth:`featx.store.StoreReader.get_batch`. Workers may be forked or spawned: each opens the files
    anew.
    """

    def __init__(
        self, store: StoreReader | str | os.PathLike[str], keys: Sequence[str] | None = None, *,
        dtype: Dtype = "float32", boxes: Boxes = "pixels", fields: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.store = store if isinstance(store, StoreReader) else open_store(store)
        self.keys = list(self.store.keys()) if keys is None else keys
        self._dtype, self._boxes = dtype, boxes
        self._fields = None if fields is None else tuple(fields)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One example: features ``[N, D]``, boxes ``[N, 4]``, mask ``[N]``, sizes ``[2]`` and further fields.

        Raises KeyNotFound, StoreDamaged, and IndexError beyond the last example.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> RecordBatch:
        """A batch of examples, padded to the longest."""
        keys = [self.keys[index] for index in indices]
        return self.store.get_batch(keys, dtype=self._dtype, boxes=self._boxes, fields=self._fields)

    @staticmethod
    def collate(batch: RecordBatch) -> RecordBatch:
        """For ``collate_fn``: what was read as a batch is one."""
        return batch
