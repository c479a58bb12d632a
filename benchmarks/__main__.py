"""``python -m benchmarks NAME``: a table on the screen, JSON in ``benchmarks/results/``."""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = {
    "stages": "every stage of the full-size network on one 640x480 photo, against the peers' way",
    "processes": "two processes of one thread against one: pictures a second of the full-size network",
    "select": "box selection: select_boxes against the per-class Python loop, maxnms against the demo's",
    "roipool": "RoIPool against the speed of memory",
    "gpu": "pictures a second on a GPU in every precision beside the peers' loop, and our kernels (DRY=1: without one)",
    "precision": "how far every precision is from float32, full-size on photos and tiny on drawn scenes",
    "reading": "batches of shuffled records: featx, the limit of memory, and every other reader",
    "writing": "records into a store with fsync, beside a flat file, py-lmdb and h5py",
    "opening": "a store of five million keys: time and memory",
    "views": "batches of a view of a superset store, beside a plain store of the same regions",
    "loader": "batches through FeatureLoader into a step, beside torch's DataLoader",
    "serving": "look-ups over loopback: featx serve beside nginx, Redis, a bare app and a plain socket",
    "codecs": "dtypes of features and compressors behind them: bytes, decoding speed, error",
    "answers": "how many answers of the default LXMERT change with the dtype of the features it reads",
    "feeding": "a small LXMERT on a store four times the memory it may have: the share of time spent waiting for data",
    "epochs": "steps of a cached epoch beside the same with the tower in front, for each reader of grids (SMALL=1)",
    "scale": "100 million pictures on 64 GPUs and 512 cores, simulated; the model beside runs of 1 and 2 workers here",
    "endurance": "COUNT=100000 tiny pictures in one run: rate, memory, and resuming what is finished",
    "learning": "LXMERT on drawn scenes of SEED=n, against a model that cannot look (RETRAIN=1: trained anew as well)",
}


def main() -> int:
    """Run one benchmark; without a name, list them."""
    if len(sys.argv) != 2 or sys.argv[1] not in NAMES:
        print("usage: make bench NAME=...\n", *(f"  {name:<10}{text}" for name, text in NAMES.items()), sep="\n")
        return 2
    import_module(f"benchmarks.{sys.argv[1]}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
