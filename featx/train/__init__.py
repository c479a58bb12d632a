"""Training: one loop for every task, on one process or many, that can be killed at any moment and goes on exactly.

``train(task, stores, config, out)`` is the whole of it (see ``loop``); ``featx train`` is the same code. The loop never
learns which task it runs (see :mod:`featx.task`), and is fed by the parts of :mod:`featx.loading`. One noun per module:

==============  ======================================================================================
``config``      the settings of the loop
``recipe``      a YAML file: which task, on which store, with which settings
``optim``       optimisers by name; ``bert_adam`` is LXMERT's
``schedule``    the rate of a step
``sampler``     which examples are in which batch
``seeds``       every source of chance: seeding, keeping, putting back
``sources``     the stores of a run; ``check``: do they hold what the task wants?
``contents``    which examples a run is made of
``supply``      the batches of a run: examples, records, tensors
``distributed`` several processes
``learner``     one step: forward, backward, clip, update
``evaluation``  predictions and scores of a split
``meter``       losses waiting to be told; ``watch``: how long the loop waited for data
``checkpoint``  the state of a run on disk; ``keeper``: what of a run is in it
``run``         the folder of a run
``journal``     log.jsonl and TensorBoard; ``display``: what a person sees; ``teller``: both
``stop``        Ctrl-C and SIGTERM
``loop``        all of it, put together; ``outcome``: how it ended
==============  ======================================================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featx.train.config import TrainConfig
    from featx.train.loop import train
    from featx.train.outcome import Outcome
    from featx.train.seeds import seed_everything

# Imported when first used: settings can be read and refused without the start of torch.
_HOME = {"train": "loop", "Outcome": "outcome", "TrainConfig": "config", "seed_everything": "seeds"}

__all__ = ["Outcome", "TrainConfig", "seed_everything", "train"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"featx.train.{_HOME[name]}"), name)
    raise AttributeError(f"module 'featx.train' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
