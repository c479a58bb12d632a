"""Keeps a run: everything that decides how it goes on, into a checkpoint and back, in every process."""

from __future__ import annotations

from dataclasses import dataclass

from safetensors.torch import load, save

from featx.errors import StoreDamaged
from featx.train import checkpoint, seeds
from featx.train.checkpoint import Checkpoints, State
from featx.train.config import TrainConfig
from featx.train.distributed import World
from featx.train.learner import Learner
from featx.train.meter import Meter
from featx.train.teller import Teller


@dataclass(frozen=True)
class Keeper:
    """What of a run has a state: model, optimiser and scaler (``learner``), losses not told yet (``meter``), the log
    (``teller``), and the generators of every process."""

    checkpoints: Checkpoints
    learner: Learner
    meter: Meter
    config: TrainConfig
    world: World

    def save(self, state: State, teller: Teller) -> None:
        """Write a checkpoint. Every process must call this. Raises FeatxError, and writes nothing, after a bad loss."""
        self.meter.fetch()
        chance = self.world.gather_bytes(save(seeds.capture(self.world.device)))
        self.world.by_first(lambda: self._write(state, teller, chance))

    def _write(self, state: State, teller: Teller, chance: list[bytes]) -> None:
        state.log, state.meter = teller.sync(), self.meter.state()
        state.scaler = self.learner.scaler.state_dict()
        tensors = checkpoint.optimiser_tensors(self.learner.optimiser)
        for rank, data in enumerate(chance):
            tensors |= {f"random.{rank}.{name}": value for name, value in load(data).items()}
        self.checkpoints.write(state, checkpoint.model_tensors(self.learner.task.model), tensors)

    def restore(self) -> tuple[State, list[str]]:
        """The state of the last checkpoint, everything else put back into it; a new state when there is none.

        Also returns what a person should know. Every process reads the same files. Raises StoreDamaged for a checkpoint
        that cannot be read, or is not one of this model.
        """
        found = self.checkpoints.latest()
        if found is None:
            seeds.seed_everything(self.config.seed, "train", self.world.rank)
            return State(), []
        state, model, tensors = checkpoint.read(found)
        try:
            self._put_back(state, model, tensors)
            return state, self._restore_chance(tensors, state.step)
        except (RuntimeError, LookupError, TypeError, ValueError) as error:
            raise StoreDamaged(
                f"the checkpoint {found} is not one of this model and its optimiser: {error}",
                "train with the code it was made with, or begin anew with --fresh",
            ) from error

    def _put_back(self, state: State, model: checkpoint.Tensors, tensors: checkpoint.Tensors) -> None:
        checkpoint.load_model(self.learner.task.model, model)
        checkpoint.load_optimiser(self.learner.optimiser, tensors)
        if state.scaler:
            self.learner.scaler.load_state_dict(state.scaler)
        self.meter.restore(state.meter)

    def _restore_chance(self, tensors: checkpoint.Tensors, step: int) -> list[str]:
        mine = f"random.{self.world.rank}."
        chance = {name.removeprefix(mine): value for name, value in tensors.items() if name.startswith(mine)}
        if chance:
            seeds.restore(chance, self.world.device)
        else:
            seeds.seed_everything(self.config.seed, f"train from {step}", self.world.rank)
        kept = len({name.split(".")[1] for name in tensors if name.startswith("random.")})
        if kept == self.world.size:
            return []
        had = f"{kept} process{'es' * (kept != 1)}"
        return [f"the run had {had} so far and has {self.world.size} now: dropout will differ"]
