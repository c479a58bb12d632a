"""A server of answers in small: a toy LXMERT, an extractor that can be held up, and requests without a socket."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from starlette.applications import Starlette

from featx.data import AnswerSpace
from featx.errors import FeatxError
from featx.lxmert.folder import Model, save_model
from featx.serve.answers import Limits, ModelSpec, answers_extension
from featx.serve.extension import Extension
from featx.serve.mounted import Mounts
from featx.serve.problems import Problem, answer_problem
from featx.serve.settings import Settings
from featx.store import create_store, open_part
from featx.text.wordpiece import Tokens
from tests import fake
from tests import lxmert_toys as toys

TEXTS = ["What colour is the cube?", "How many balls are there?", "Is the tree in front?"]
MADE = {"extractor": "fake", "profile": {"hash": "profile-1"}, "weights": {"sha256": "weights-1"}}
WANTS = {"dim": toys.DIM, "profile": "profile-1", "weights": "weights-1",
         "extractor": {"name": "fake", "options": {}}}  # fmt: skip


class Eye(fake.Fake):
    """The fake extractor, as the toy model wants it. It works only while ``gate`` is open."""

    gate = threading.Event()
    looked: list[int] = []  # noqa: RUF012  # how many pictures in each call, of all of them
    built = 0

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Eye:
        cls.built += 1
        return cls(**options)

    @classmethod
    def reset(cls) -> None:
        cls.gate.set()
        cls.looked, cls.built = [], 0

    def provenance(self) -> dict[str, Any]:
        return MADE

    def __call__(self, batch: Sequence[Any]) -> list[Any]:
        assert self.gate.wait(30)
        self.looked.append(len(batch))
        return super().__call__(batch)


def save(folder: Path, seed: int = 0, wants: Mapping[str, Any] = WANTS, **about: Any) -> Path:
    """A toy LXMERT with four answers."""
    folder.mkdir()
    tokens = Tokens.train(TEXTS, 60)
    network = toys.answering(seed, vocab_size=len(tokens))
    save_model(folder, Model(network, tokens, AnswerSpace(toys.ANSWERS), {"loss": "ce", "wants": wants, **about}))
    return folder


def pixels(number: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8)


def png(number: int) -> bytes:
    """The file of picture ``number``."""
    return bytes(cv2.imencode(".png", pixels(number)[..., ::-1])[1])


def make_store(path: Path, numbers: Sequence[int] = range(3), parts: int = 1) -> Path:
    """A store of what the eye makes of pictures, by the keys ``p0``, ``p1``, ..."""
    eye = Eye()
    provenance = {**MADE, "decoder": {"decoder": "opencv"}, "key_rule": "stem"}
    create_store(path, "lmdb", eye.schema, provenance, eye.labels, parts=parts)
    with open_part(path) as writer:
        for place, number in enumerate(numbers):
            writer.put(f"p{number}", fake.expected(pixels(number)), place)
        writer.finish()
    return path


def make_app(
    mounts: Mounts, models: Sequence[ModelSpec], pictures: Any = None, limits: Limits | None = None, **settings: Any
) -> tuple[Starlette, Extension]:
    """The routes of answers, with what makes errors of exceptions."""
    extension = answers_extension(Settings(**settings), mounts, models, pictures, limits=limits)
    handlers: Any = {Problem: answer_problem, FeatxError: answer_problem}
    return Starlette(routes=extension.routes, lifespan=extension.lifespan, exception_handlers=handlers), extension


def client(app: Starlette) -> httpx.AsyncClient:
    """Requests to an app in this event loop."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


async def until(condition: Any) -> None:
    """Wait for what another thread is about to do."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.002)


class Vanishing:
    """A request whose client goes away when told to."""

    def __init__(self, app: Starlette, asked: Mapping[str, Any]) -> None:
        self.app, self.body, self.gone = app, json.dumps(asked).encode(), asyncio.Event()
        self.sent: list[Mapping[str, Any]] = []

    async def run(self) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(self.body)).encode())]
        scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/v1/answer",
            "raw_path": b"/v1/answer", "root_path": "", "query_string": b"", "headers": headers,
            "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
        }  # fmt: skip
        messages = iter([{"type": "http.request", "body": self.body, "more_body": False}])

        async def receive() -> Any:
            message = next(messages, None)
            if message is None:
                await self.gone.wait()
                return {"type": "http.disconnect"}
            return message

        async def send(message: Any) -> None:
            self.sent.append(message)

        await self.app(scope, receive, send)
