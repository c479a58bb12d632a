"""What the cache teaches: LXMERT on drawn scenes that no recipe has seen, against a model that cannot look.

The default detector and the default LXMERT answer the questions about scenes of a new seed. The controls: a model of
the same configuration and budget trained with its features set to zero, and the default model shown another picture.
``SEED=n`` draws other scenes; ``RETRAIN=1`` also trains the seeing model anew, from other weights on other scenes.
Half an hour on one core for every model that is trained; what is there already is used again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.timing import save, table

ROOT = Path(__file__).resolve().parent.parent
WORK = Path("build/learning")  # paths are relative to ROOT, where the commands run
RECIPE = Path("configs/lxmert_scenes.yaml")
RECIPE_SEED, TRAIN, HELD_OUT = 1, 6000, 500  # of configs/lxmert_scenes.yaml, whose comments say so too
NAMES = "scene_{image_id:012d}"
FAMILIES = ("existence", "counting", "attribute", "object", "spatial", "comparison")


def main() -> None:
    """Print the table and write ``results/learning-SEED.json``."""
    seed, retrain = int(os.environ.get("SEED") or 7), os.environ.get("RETRAIN") == "1"
    if seed == RECIPE_SEED:
        sys.exit(f"seed {RECIPE_SEED} is the one the recipe was trained on: take another")
    held_out = scenes(f"held-out-{seed}", seed, 1, HELD_OUT, "val")
    rows = {
        "default LXMERT": score("default", held_out),
        "the same, shown another picture": score("default", held_out, "other-picture"),
        "trained without features": score(train(RECIPE_SEED, blind=True), held_out, "no-picture"),
    }
    if retrain:
        again = 1000 * seed + RECIPE_SEED
        rows[f"trained anew, seed {again}"] = score(train(again), held_out)
    cells = [[name, *(f"{found[key]:.1f}" for key in ("overall", *FAMILIES))] for name, found in rows.items()]
    print("\n" + table([["VQA accuracy, %", "overall", *FAMILIES], *cells]))
    print("\nwrote", save(f"learning-{seed}", {"seed": seed, "scenes": HELD_OUT, "accuracy": rows}))


def scenes(name: str, seed: int, train: int, val: int, *splits: str) -> Path:
    """A folder of scenes, with a store of each of ``splits`` made by the default detector."""
    folder = WORK / name
    featx("scenes", folder, "--train", train, "--val", val, "--seed", seed, "--languages", "en")
    for split in splits:
        featx("extract", folder / split, folder / f"{split}.featx", "--weights", "tiny", "--key-rule", "stem")
    return folder


def train(seed: int, *, blind: bool = False) -> Path:
    """The recipe on scenes of ``seed``, from weights of ``seed``; returns the exported model."""
    taught = scenes(f"recipe-{seed}", seed, TRAIN, 400, "train", "val")
    run = WORK / f"lxmert-{seed}{'-blind' if blind else ''}"
    changes = {f"store.{split}": taught / f"{split}.featx" for split in ("train", "val")}
    for split in ("train", "val"):
        for kind in ("questions", "annotations"):
            changes[f"data.{split}.{kind}"] = taught / f"vqa/{kind}_{split}_en.json"
    changes |= {"train.seed": seed, "zero_features": str(blind).lower()}
    featx(
        "train",
        RECIPE,
        "--out",
        run,
        *(word for item in changes.items() for word in ("--set", "=".join(map(str, item)))),
    )
    return run / "best"


def score(model: str | Path, held_out: Path, control: str | None = None) -> dict[str, float]:
    """VQA accuracy in percent, overall and for each family of questions."""
    questions, answers = (held_out / f"vqa/{kind}_val_en.json" for kind in ("questions", "annotations"))
    out = WORK / "answers.json"
    flags = ("--control", control) if control else ()
    featx("predict", model, held_out / "val.featx", questions, "--image-name", NAMES, "-o", out, *flags)
    report: dict[str, Any] = json.loads(featx("evaluate", out, questions, answers, "--json"))
    return {"overall": report["overall"], **report["per question type"]}


def featx(*words: object) -> str:
    """Run a ``featx`` command, its progress in sight, and return what it printed."""
    line = [str(word) for word in words]
    print(f"$ featx {' '.join(line)}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "featx", *line], stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout
