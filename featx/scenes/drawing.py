"""Draw a whole folder, in as many processes as there are cores; an interrupted run goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2
import joblib

from featx.errors import UsageError
from featx.progress import Progress
from featx.scenes.camera import photograph
from featx.scenes.card import Census
from featx.scenes.coco import Captions, Instances, References
from featx.scenes.gqa import Gqa
from featx.scenes.growing import GrowingJson
from featx.scenes.languages import LANGUAGES
from featx.scenes.page import Page, write_page
from featx.scenes.plan import CARD, PLACES, VIZWIZ, Plan, also_named, claimed, deliver, is_finished, picture_path
from featx.scenes.snapshots import expose, file_name, take
from featx.scenes.vizwiz import Vizwiz
from featx.scenes.vqa import Annotations, LxmertList, Questions
from featx.scenes.world import FIRST_ID, SPLITS, Split

_CHUNK = 8  # pictures per message between processes


class Annex(Protocol):
    """A file about the pictures of a split that takes them one by one."""

    file: GrowingJson

    def add(self, page: Page) -> None: ...


def write_scenes(
    out: str | Path,
    train: int,
    val: int,
    seed: int,
    languages: Sequence[str] = tuple(LANGUAGES),
    *,
    vizwiz: bool = False,
    workers: int | None = None,
    quiet: bool = True,
    json: bool = False,
) -> Plan:
    """Write all files of the scenes of a seed into the folder ``out``; the bytes do not depend on ``workers``.

    vizwiz: pictures and questions as VizWiz has them, too; a folder that has some keeps all.
    workers: processes, as many as there are cores by default. Pictures that an earlier run of the same plan wrote are
    kept, and a folder that is whole is left as it is. Raises UsageError for a folder that holds something else, and
    for numbers that make no sense; StoreError while another process draws into the folder.
    """
    plan = Plan(train, val, seed, tuple(languages))
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers", "give a whole number of 1 or more")
    folder, census = Path(out), Census()
    with claimed(folder, plan):
        vizwiz = vizwiz or (folder / VIZWIZ).is_dir()
        if is_whole(folder, plan, vizwiz=vizwiz):
            return plan
        with Progress(train + val, json=json, quiet=quiet) as progress:
            for split in SPLITS:
                _write_split(folder, plan, split, vizwiz, workers or joblib.cpu_count(), progress, census)
        deliver(folder / CARD, census.card(plan).encode())
    return plan


def is_whole(folder: Path, plan: Plan, *, vizwiz: bool = False) -> bool:
    """Whether every file of the plan is there."""
    files = [folder / CARD]
    for split in SPLITS:
        files += [*_annexes(folder, plan, split, vizwiz), *(_answers(folder, split, code) for code in plan.languages)]
        files += plan.pictures(folder, split)
        if vizwiz:
            ids = range(FIRST_ID[split], FIRST_ID[split] + plan.count(split))
            files += [folder / VIZWIZ / split / file_name(split, number) for number in ids]
    return all(map(is_finished, files))


def _annexes(folder: Path, plan: Plan, split: Split, vizwiz: bool) -> dict[Path, Callable[[Path], Annex]]:
    """The files about a split, and what writes each."""
    *_, boxes, vqa, captions, gqa, lxmert = (folder / place for place in PLACES)
    files: dict[Path, Callable[[Path], Annex]] = {boxes / f"instances_{split}.json": Instances}
    for code in plan.languages:
        language, suffix = LANGUAGES[code], "" if code == "en" else f"_{code}"  # GQA and LXMERT name no language
        files[vqa / f"questions_{split}_{code}.json"] = partial(Questions, split=split, language=language)
        files[captions / f"captions_{split}_{code}.json"] = partial(Captions, language=language)
        if split == "val":
            files[captions / f"references_{split}_{code}.json"] = partial(References, language=language)
        files[gqa / f"{split}_balanced_questions{suffix}.json"] = partial(Gqa, language=language)
        files[lxmert / f"{split}{suffix}.json"] = partial(LxmertList, language=language)
        if vizwiz:
            files[folder / VIZWIZ / f"{split}{suffix}.json"] = partial(Vizwiz, language=language)
    files[_answers(folder, split, plan.languages[0])] = partial(Annotations, split=split)
    return files


def _answers(folder: Path, split: Split, code: str) -> Path:
    """The answers to the questions of a language, which are the same for all: one file with several names."""
    return folder / "vqa" / f"annotations_{split}_{code}.json"


def _write_split(
    folder: Path, plan: Plan, split: Split, vizwiz: bool, workers: int, progress: Progress, census: Census
) -> None:
    """Draw what is missing of a split and write all files about it."""
    with ExitStack() as stack:
        annexes = [make(path) for path, make in _annexes(folder, plan, split, vizwiz).items()]
        for annex in annexes:
            stack.enter_context(annex.file)
        for page in _drawn(folder, plan, split, vizwiz, workers):
            for annex in annexes:
                annex.add(page)
            census.add(page)
            progress.advance()
    for code in plan.languages[1:]:
        also_named(_answers(folder, split, plan.languages[0]), _answers(folder, split, code))


def _drawn(folder: Path, plan: Plan, split: Split, vizwiz: bool, workers: int) -> Iterator[Page]:
    """The pages of a split in order, each with its picture on disk."""
    (folder / split).mkdir(exist_ok=True)
    if vizwiz:
        (folder / VIZWIZ / split).mkdir(parents=True, exist_ok=True)
    indices = range(plan.count(split))
    chunks = [indices[k : k + _CHUNK] for k in range(0, len(indices), _CHUNK)]
    pool = joblib.Parallel(n_jobs=min(workers, max(1, len(chunks))), return_as="generator")
    for pages in pool(joblib.delayed(_draw)(folder, plan.seed, split, chunk, vizwiz) for chunk in chunks):
        yield from pages


def _draw(folder: Path, seed: int, split: Split, indices: range, vizwiz: bool) -> list[Page]:
    """Work of one process: pictures that are not there yet, and what is said about all."""
    with _one_thread():
        pages = [write_page(seed, split, index) for index in indices]
        for page in pages:
            path = picture_path(folder, page.scene.id)
            if not is_finished(path):
                deliver(path, photograph(page.scene))
            if vizwiz:
                _snap(folder, page)
    return pages


def _snap(folder: Path, page: Page) -> None:
    path = folder / VIZWIZ / page.scene.split / file_name(page.scene.split, page.scene.id)
    if not is_finished(path):
        deliver(path, expose(take(page.scene)))


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenCV's threads would get in the way of the other processes; who calls us gets back as many as there were."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
