"""A task, an extractor and a model from outside the package, by entry points alone; nothing asks for their names."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.test_layers import MODULES, imports

HERE = Path(__file__).resolve().parent
ENTRY_POINTS = """[featx.extractors]
elsewhere-tiles = elsewhere.tiles:Tiles

[featx.tasks]
elsewhere-colour = elsewhere.task:Colour

[featx.models]
elsewhere-model = elsewhere.model:Colours
"""
COLOURS = {"red": (0, 0, 220), "green": (0, 200, 0), "blue": (220, 0, 0)}  # BGR
RECIPE = """task: elsewhere-colour
store: store
examples: examples.json
train: {epochs: 60, batch: 6, lr: 0.5, workers: 0, tensorboard: false}
"""
# The command line, command after command in one process: each starts as `featx ...` would.
DRIVER = """
import json, sys
from featx.cli import main
for words in json.load(open("commands.json")):
    sys.argv = ["featx", *words]
    print("$", *words, flush=True)
    code = main(words)
    if code:
        sys.exit(f"{words} ended with {code}")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with the one of somebody else in it."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(HERE / "elsewhere", site / "elsewhere", ignore=shutil.ignore_patterns("__pycache__"))
    info = site / "elsewhere-7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 7\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return site


@pytest.fixture(scope="module")
def said(site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Command -> what it printed: extract, train, ask about a key, ask about a photo, predict, list."""
    place = tmp_path_factory.mktemp("work")
    (place / "photos").mkdir()
    noise = np.random.default_rng(0)
    examples = []
    for i in range(12):
        colour = list(COLOURS)[i % 3]
        pixels = np.clip(np.array(COLOURS[colour]) + noise.integers(-30, 30, (24, 32, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(place / f"photos/{colour}{i}.png"), pixels)
        examples.append({"picture": f"{colour}{i}", "colour": colour})
    cv2.imwrite(str(place / "new.png"), np.full((40, 20, 3), COLOURS["green"], np.uint8))
    (place / "examples.json").write_text(json.dumps(examples))
    (place / "recipe.yaml").write_text(RECIPE)
    rows = [{"question_id": i, "img_id": one["picture"], "sent": "which colour?"} for i, one in enumerate(examples)]
    (place / "questions.json").write_text(json.dumps(rows))
    commands: dict[str, list[str]] = {
        "extract": ["extract", "photos", "store", "--extractor", "elsewhere-tiles", "--key-rule", "stem", "--quiet"],
        "train": ["train", "recipe.yaml", "--out", "run", "--quiet"],
        "key": ["ask", "store", "blue5", "which colour?", "--model", "run/best", "--json"],
        "photo": ["ask", "new.png", "which colour?", "--model", "run/best", "--json", "--draw", "new-drawn.png"],
        "predict": ["predict", "run/best", "store", "questions.json", "-o", "out.json", "--quiet"],
        "models": ["models", "elsewhere-model", "--json"],
        "plugins": ["plugins", "--json"],
    }
    (place / "commands.json").write_text(json.dumps(list(commands.values())))
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], cwd=place, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parts = done.stdout.split("$ ")[1:]
    told = {name: part.partition("\n")[2] for name, part in zip(commands, parts, strict=True)}
    told["out.json"] = (place / "out.json").read_text()
    told["figures"] = (place / "run/best/featx.json").read_text()
    assert cv2.imread(str(place / "new-drawn.png")) is not None
    return told


def test_a_task_from_outside_is_trained_on_the_store_of_an_extractor_from_outside(said: dict[str, str]) -> None:
    about = json.loads(said["figures"])
    assert about["task"] == "elsewhere-colour"
    assert about["figures"]["accuracy"] == 100
    assert about["wants"]["extractor"]["name"] == "elsewhere-tiles"


def test_its_model_is_asked_about_keys_and_photos(said: dict[str, str]) -> None:
    for name, colour in (("key", "blue"), ("photo", "green")):
        (reply,) = json.loads(said[name])["replies"]
        (answers,) = reply["answers"].values()
        assert answers[0]["answer"] == colour
        assert answers[0]["score"] > 0.5
        assert sum(one["score"] for one in answers) == pytest.approx(1)


def test_its_model_answers_a_whole_split(said: dict[str, str]) -> None:
    found = [one["answer"] for one in json.loads(said["out.json"])]
    assert found == ["red", "green", "blue"] * 4


def test_it_is_listed_with_the_others(said: dict[str, str]) -> None:
    card = json.loads(said["models"])
    assert (card["package"], card["problem"], card["tasks"]) == ("elsewhere 7", "", ["elsewhere-colour"])
    listed = {(one["group"], one["name"], one["problem"]) for one in json.loads(said["plugins"])}
    for line in ENTRY_POINTS.splitlines():
        if " = " in line:
            assert any(name == line.partition(" = ")[0] and not problem for _, name, problem in listed)


# --- nobody asks for a task by its name ------------------------------------------------------------------

TASKS = {entry.name: entry.value.partition(":")[0] for entry in entry_points(group="featx.tasks")}
KINDS = {entry.value.partition(":")[0] for entry in entry_points(group="featx.models")}


_DECISIONS = (ast.Compare, ast.Dict, ast.match_case, ast.Subscript)


def texts(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [
                one for one in node.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
            ]
    return tree


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_names_a_task_but_its_own_and_the_card_of_its_model(module: str) -> None:
    tree = without_docstrings(ast.parse(MODULES[module].read_text()))
    named = set(texts(tree)) & set(TASKS)
    if module in KINDS:  # its card lists tasks; nothing may be decided by them
        named = {text for node in ast.walk(tree) if isinstance(node, _DECISIONS) for text in texts(node)}
        named &= set(TASKS)
    assert {name for name in named if TASKS[name] != module} == set()


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith(("featx.train", "featx.loading", "featx.cli"))])
def test_the_loop_and_the_commands_import_no_task(module: str) -> None:
    assert imports(MODULES[module], everywhere=True) & set(TASKS.values()) == set()
