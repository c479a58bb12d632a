"""What one server serves, as every process of it is told: it can be pickled, and nothing in it is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.applications import Starlette

from featx.serve.answers import answers_extension, read_model
from featx.serve.app import make_app
from featx.serve.extension import Extension
from featx.serve.mounted import Mounted, Mounts
from featx.serve.page import page_extension
from featx.serve.pictures import Pictures, pictures_extension
from featx.serve.settings import Settings
from featx.store import Location


@dataclass(frozen=True)
class Plan:
    """stores, pictures: by name where they lie. models: as ``--model`` names them.

    weights: of what extracts pictures, in place of those that a model states. device: where models compute.
    """

    settings: Settings
    stores: tuple[tuple[str, Location], ...]
    models: tuple[str, ...] = ()
    pictures: tuple[tuple[str, str], ...] = ()
    weights: str | None = None
    device: str = "cpu"

    def mounts(self) -> Mounts:
        """The stores; each is opened when it is asked for."""
        return Mounts(Mounted(name, location) for name, location in self.stores)


def application(plan: Plan) -> Starlette:
    """The application of one process."""
    mounts = plan.mounts()
    return make_app(plan.settings, mounts, extensions(plan, mounts))


def extensions(plan: Plan, mounts: Mounts) -> Sequence[Extension]:
    """What is served beside the stores. Raises FeatxError for models and pictures that are not there."""
    pictures = {name: Pictures.of(folder, mounts[name].manifest) for name, folder in plan.pictures}
    models = [read_model(model) for model in plan.models]
    extractor = {"weights": plan.weights} if plan.weights else None
    answers = answers_extension(plan.settings, mounts, models, pictures, device=plan.device, extractor=extractor)
    return [page_extension(), pictures_extension(plan.settings, mounts, pictures), answers]
