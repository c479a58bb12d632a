"""The examples that need a server: a fine-tuning from a URL, and replicas on a Ray cluster."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import torch
import uvicorn

import examples.finetune_from_url as finetune
from featx.errors import UsageError
from featx.lxmert.folder import load_model
from featx.lxmert.place import DEFAULT
from featx.schema import region_schema
from featx.serve.app import make_app
from featx.serve.mounted import Mounts
from featx.serve.settings import Settings
from featx.store import create_store, open_part
from tests import lxmert_toys as toys
from tests.answers_toys import save

ROOT = Path(__file__).parents[1]
TEXTS = ("What colour is the cube?", "How many balls are there?")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Two stores behind a socket."""
    for split, numbers in (("train", range(12)), ("val", range(12, 16))):
        records = {f"scene_{i:012d}": toys.record(i) for i in numbers}
        toys.make_store(tmp_path / f"{split}.featx", records)
    mounts = Mounts.of(train=tmp_path / "train.featx", val=tmp_path / "val.featx")
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(Settings(), mounts), log_level="error", lifespan="on"))
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(30)
    listener.close()


def write_questions(folder: Path, split: str, numbers: range) -> None:
    rows = [(2 * i + k, i, text) for i in numbers for k, text in enumerate(TEXTS)]
    answers = {number: toys.ANSWERS[number % 4] for number, _, _ in rows}
    (folder / f"questions_{split}_en.json").write_text(json.dumps(
        {"questions": [{"question_id": n, "image_id": i, "question": text} for n, i, text in rows]}
    ))  # fmt: skip
    (folder / f"annotations_{split}_en.json").write_text(json.dumps({"annotations": [
        {"question_id": n, "image_id": i, "question_type": "what", "answer_type": "other",
         "multiple_choice_answer": answers[n], "answers": [{"answer_id": a, "answer": answers[n]} for a in range(10)]}
        for n, i, _ in rows
    ]}))  # fmt: skip


def test_a_model_is_fine_tuned_from_a_url_in_thirty_lines(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wants = {"dim": toys.DIM, "profile": "profile-1", "weights": "weights-1"}
    model = save(tmp_path / "model", wants=wants)
    monkeypatch.setattr("featx.predictor.DEFAULT", model)
    monkeypatch.setattr("featx.lxmert.place.DEFAULT", model)
    write_questions(tmp_path, "train", range(12))
    write_questions(tmp_path, "val", range(12, 16))
    torch.manual_seed(0)
    finetune.main(url, str(tmp_path), str(tmp_path / "out"), epochs=2, batch=8)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["epoch 0", "epoch 1", "epoch 2"]
    before, after = load_model(model), load_model(tmp_path / "out")
    assert after.answers == before.answers
    changed = [
        name for name, tensor in after.network.state_dict().items()
        if not torch.equal(tensor, before.network.state_dict()[name])
    ]  # fmt: skip
    assert len(changed) > 50
    code = [line for line in Path(finetune.__file__).read_text().partition('"""\n\n')[2].splitlines() if line.strip()]
    assert len(code) == 30


def test_features_of_another_detector_are_refused_by_the_example(url: str, tmp_path: Path) -> None:
    assert DEFAULT.is_dir()
    with pytest.raises(UsageError, match="does not fit the model"):
        finetune.main(url, str(tmp_path), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def with_ray() -> str:
    """A Python that has Ray: this one, or the one that FEATX_RAY_PYTHON names (which must have featx, too)."""
    python = os.environ.get("FEATX_RAY_PYTHON") or (sys.executable if find_spec("ray") else None)
    if python is None:
        pytest.skip("ray is not installed; FEATX_RAY_PYTHON may name a Python that has it")
    return python


def test_two_replicas_on_a_ray_cluster_go_on_when_one_is_killed(tmp_path: Path) -> None:
    python = with_ray()
    store = tmp_path / "s.featx"
    create_store(store, "lmdb", region_schema(toys.DIM, "float32", rows=toys.ROWS), toys.PROVENANCE, parts=3)
    for part in range(3):
        with open_part(store, part) as writer:
            for i in range(part, 24, 3):
                writer.put(f"p{i}", toys.record(i % 12), i)
            writer.finish()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = subprocess.run(
        [python, str(ROOT / "tests/ray_load.py"), store.as_uri(), str(tmp_path), str(port), "200"],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("reads") > 400
    assert found == {"wrong": [], "failed": [], "replicas": 2, "replaced": True, "went_on": True}


def test_a_replica_asks_for_the_token_of_whoever_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for that of the machine that it runs on, where nobody may have set one."""
    ray = ModuleType("ray")
    ray.serve = ModuleType("ray.serve")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "examples.ray_serve", ModuleType("examples.ray_serve"))
    monkeypatch.delitem(sys.modules, "examples.ray_serve")  # one that has this ray goes with it
    lookups = importlib.import_module("examples.ray_serve").lookups
    toys.make_store(tmp_path / "s.featx", {"a": toys.record(0)})
    url, token = (tmp_path / "s.featx").as_uri(), "of-many-letters-and-signs"
    monkeypatch.delenv("FEATX_TOKEN", raising=False)
    with pytest.raises(UsageError, match="no token"):
        lookups(url, str(tmp_path / "copies"), Settings(host="0.0.0.0"))
    app = lookups(url, str(tmp_path / "copies"), Settings(host="0.0.0.0", token=token))

    async def statuses() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://elsewhere") as client:
            told = ({}, {"authorization": f"Bearer {token}"})
            return [(await client.get("/v1/stores/s/records/a", headers=headers)).status_code for headers in told]

    assert asyncio.run(statuses()) == [401, 200]
