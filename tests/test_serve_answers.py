"""POST /v1/answer: keys and pictures, many at once, languages, errors, and clients that go away."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import featx.live
from featx.predictor import Predictor
from featx.record import Record
from featx.serve.answers import Limits, ModelSpec, read_model
from featx.serve.extension import Extension
from featx.serve.mounted import Mounts
from tests import answers_toys as toys
from tests import fake
from tests.answers_toys import TEXTS, Eye, Vanishing, client, until

LIMITS = Limits(wait=0.0)
Script = Callable[[httpx.AsyncClient, Extension], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def eye(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Eye.reset()
    monkeypatch.setattr(featx.live, "load", lambda group, name: {"fake": Eye}[name])
    yield
    Eye.gate.set()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return toys.save(tmp_path / "model")


@pytest.fixture
def mounts(tmp_path: Path) -> Mounts:
    return Mounts.of(s=toys.make_store(tmp_path / "s.featx"))


def serve(
    mounts: Mounts, model: Path | list[ModelSpec], script: Script, limits: Limits = LIMITS,
    pictures: Any = None, **options: Any,
) -> None:  # fmt: skip
    """Run a script against a server of its own, which is then drained."""
    models = model if isinstance(model, list) else [ModelSpec("toy", str(model))]

    async def main() -> None:
        app, extension = toys.make_app(mounts, models, pictures, limits, **options)
        async with app.router.lifespan_context(app), client(app) as http:
            await script(http, extension)

    asyncio.run(main())


def asking(key: str = "p0", question: str = TEXTS[0], **more: Any) -> dict[str, Any]:
    return {"json": {"store": "s", "key": key, "question": question, **more}}


def sending(number: int, question: str = TEXTS[0], **more: str) -> dict[str, Any]:
    return {"data": {"question": question, **more}, "files": {"picture": ("a.png", toys.png(number))}}


def close(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    names = [one["answer"] for one in found] == [one["answer"] for one in wanted]
    return names and [one["score"] for one in found] == pytest.approx([one["score"] for one in wanted], abs=1e-5)


# --- answers ---------------------------------------------------------------------------------------------


def test_a_key_is_answered_as_by_the_predictor(mounts: Mounts, model: Path) -> None:
    wanted = Predictor(model, mounts["s"])("p1", TEXTS[1], top_k=3)

    async def script(http: httpx.AsyncClient, _: Extension) -> None:
        answer = await http.post("/v1/answer", **asking("p1", TEXTS[1], top_k=3))
        assert answer.status_code == 200
        found = answer.json()
        assert close(found.pop("answers"), wanted)
        record = fake.expected(toys.pixels(1))
        assert found.pop("boxes") == record.boxes.tolist()
        assert found == {
            "model": "toy", "store": "s", "key": "p1", "size": [40, 60], "weights": None, "cut": False,
        }  # fmt: skip

    serve(mounts, model, script)
    assert Eye.built == 0


def test_a_question_longer_than_the_model_reads_is_told(mounts: Mounts, model: Path) -> None:
    async def script(http: httpx.AsyncClient, _: Extension) -> None:
        answer = await http.post("/v1/answer", **asking(question=" ".join(TEXTS * 9)))
        assert (answer.status_code, answer.json()["cut"]) == (200, True)

    serve(mounts, model, script)


def test_questions_of_one_moment_share_a_call_and_each_gets_its_own_answer(mounts: Mounts, model: Path) -> None:
    ask = Predictor(model, mounts["s"])
    pairs = [(f"p{i % 3}", TEXTS[i % 2], 1 + i % 4) for i in range(24)]

    async def script(http: httpx.AsyncClient, extension: Extension) -> None:
        answers = await asyncio.gather(*(http.post("/v1/answer", **asking(k, q, top_k=n)) for k, q, n in pairs))
        for answer, (key, question, top_k) in zip(answers, pairs, strict=True):
            assert close(answer.json()["answers"], ask(key, question, top_k))
        figures = extension.figures()
        assert figures["featx_answers_total"] == 24
        assert figures["featx_answers_calls_total"] == 3

    serve(mounts, model, script, Limits(batch=8, wait=30))


def test_a_picture_that_is_sent_is_answered_as_its_record(mounts: Mounts, model: Path) -> None:
    record = fake.expected(toys.pixels(9))
    wanted = Predictor(model)(record, TEXTS[0])

    async def script(http: httpx.AsyncClient, _: Extension) -> None:
        found = (await http.post("/v1/answer", **sending(9))).json()
        assert close(found["answers"], wanted)
        assert (found["key"], found["store"], found["size"]) == (None, None, [40, 60])
        assert found["boxes"] == record.boxes.tolist()
        assert found["record"]["names"]["objects"] == [f"thing {i}" for i in record.object_ids]
        only = (await http.post("/v1/answer", **sending(9, ""))).json()
        assert (only["answers"], only["record"]) == ([], found["record"])
        beside = (await http.post("/v1/answer", **sending(9, store="s"))).json()
        assert (beside["answers"], beside["store"]) == (found["answers"], "s")

    serve(mounts, model, script)
    assert Eye.looked == [1]


def test_a_picture_is_extracted_once_however_many_ask(mounts: Mounts, model: Path) -> None:
    async def script(http: httpx.AsyncClient, extension: Extension) -> None:
        Eye.gate.clear()
        tasks = [asyncio.ensure_future(http.post("/v1/answer", **sending(n, TEXTS[n % 2]))) for n in [5, 6] * 15]
        await until(lambda: extension.figures()["featx_extractions_joined_total"] == 28)
        Eye.gate.set()
        answers = await asyncio.gather(*tasks)
        assert [a.status_code for a in answers] == [200] * 30
        assert len({json.dumps(a.json()["boxes"]) for a in answers}) == 2
        await http.post("/v1/answer", **sending(5))

    serve(mounts, model, script)
    assert sum(Eye.looked) == 2
    assert Eye.built == 1


def test_models_of_one_recipe_share_what_was_extracted(tmp_path: Path, mounts: Mounts, model: Path) -> None:
    async def script(http: httpx.AsyncClient, _: Extension) -> None:
        first = (await http.post("/v1/answer", **sending(5, model="a"))).json()
        second = (await http.post("/v1/answer", **sending(5, model="b"))).json()
        assert first["record"] == second["record"]
        assert first["answers"] != second["answers"]

    serve(mounts, [ModelSpec("a", str(model)), ModelSpec("b", str(toys.save(tmp_path / "b", 1)))], script)
    assert (Eye.looked, Eye.built) == ([1], 1)


class Known:
    """Pictures of a store by key."""

    def __init__(self, numbers: dict[str, int]) -> None:
        self.numbers, self.read = numbers, 0

    def find(self, key: str) -> tuple[bytes, int] | None:
        self.read += 1
        return (toys.png(self.numbers[key]), 1000 + self.numbers[key]) if key in self.numbers else None


def test_a_key_without_a_record_is_extracted_from_its_picture(mounts: Mounts, model: Path) -> None:
    wanted = Predictor(model)(fake.expected(toys.pixels(7)), TEXTS[0])

    async def script(http: httpx.AsyncClient, _: Extension) -> None:
        answers = await asyncio.gather(*(http.post("/v1/answer", **asking("new")) for _ in range(5)))
        assert all(close(a.json()["answers"], wanted) for a in answers)
        assert answers[0].json()["key"] == "new"
        unknown = await http.post("/v1/answer", **asking("nowhere"))
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")

    serve(mounts, model, script, pictures={"s": Known({"new": 7})})
    assert Eye.looked == [1]


def test_which_regions_mattered_is_told_on_request(mounts: Mounts, model: Path) -> None:
    ask = Predictor(model)
    record = fake.expected(toys.pixels(1))
    best = ask(record, TEXTS[0], 1)[0]

    def without(i: int) -> float:
        keep = [n for n in range(4) if n != i]
        less = Record(record.features[keep], record.boxes[keep], record.size)
        return next(a["score"] for a in ask(less, TEXTS[0], 9) if a["answer"] == best["answer"])

    async def script(http: httpx.AsyncClient, _: Extension) -> None:
        found = (await http.post("/v1/answer", **asking("p1", explain=True))).json()
        assert found["weights"] == pytest.approx([best["score"] - without(i) for i in range(4)], abs=1e-5)
        assert max(map(abs, found["weights"])) > 1e-3
        sent = (await http.post("/v1/answer", **sending(1, explain="true"))).json()
        assert sent["weights"] == pytest.approx(found["weights"], abs=1e-6)

    serve(mounts, model, script)


# --- which model -----------------------------------------------------------------------------------------


def test_the_language_chooses_the_model(tmp_path: Path, mounts: Mounts, model: Path) -> None:
    french = ModelSpec("french", str(toys.save(tmp_path / "fr", 1)), ("fr", "de"))
    stated = ModelSpec("stated", str(toys.save(tmp_path / "es", 2, languages=["es"])))

    async def script(http: httpx.AsyncClient, _: Extension) -> None:
        for language, name in ((None, "toy"), ("en", "toy"), ("de", "french"), ("FR", "french"), ("fr-CA", "french"),
                               ("es", "stated")):  # fmt: skip
            answer = await http.post("/v1/answer", **asking(language=language))
            assert answer.json()["model"] == name, language
        none = await http.post("/v1/answer", **asking(language="ko"))
        assert (none.status_code, none.json()["error"]["code"]) == (422, "language")
        assert "french: fr, de" in none.json()["error"]["hint"]
        other = await http.post("/v1/answer", **asking(language="fr", model="toy"))
        assert other.status_code == 422
        models = (await http.get("/v1/models")).json()["models"]
        assert [(m["name"], m["languages"]) for m in models] == [
            ("toy", ["en"]), ("french", ["fr", "de"]), ("stated", ["es"]),
        ]  # fmt: skip

    serve(mounts, [ModelSpec("toy", str(model)), french, stated], script)


def test_a_model_that_does_not_fit_the_store_is_passed_over_or_refused(
    tmp_path: Path, mounts: Mounts, model: Path
) -> None:
    other = toys.save(tmp_path / "other", wants={**toys.WANTS, "profile": "profile-2"})

    async def script(http: httpx.AsyncClient, _: Extension) -> None:
        assert (await http.post("/v1/answer", **asking())).json()["model"] == "toy"
        refused = await http.post("/v1/answer", **asking(model="other"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "mismatch")
        assert "expected profile-2" in refused.json()["error"]["message"]
        assert str(tmp_path) not in refused.text
        stores = {m["name"]: m["stores"] for m in (await http.get("/v1/models")).json()["models"]}
        assert stores == {"other": [], "toy": ["s"]}

    serve(mounts, [ModelSpec("other", str(other)), ModelSpec("toy", str(model))], script)


def test_without_a_model_the_routes_say_so(mounts: Mounts) -> None:
    async def script(http: httpx.AsyncClient, _: Extension) -> None:
        assert (await http.get("/v1/models")).json() == {"models": []}
        answer = await http.post("/v1/answer", **asking())
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_model")

    serve(mounts, [], script)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("default", ModelSpec("default", "default")),
        ("runs/vqa/best", ModelSpec("vqa", "runs/vqa/best")),
        ("runs/my model", ModelSpec("my-model", "runs/my model")),
        ("a=runs/x", ModelSpec("a", "runs/x")),
        ("mqa@en,fr=runs/x=1/best", ModelSpec("mqa", "runs/x=1/best", ("en", "fr"))),
        ("org/name@main", ModelSpec("name-main", "org/name@main")),
    ],
)
def test_a_model_of_the_command_line_is_read(text: str, spec: ModelSpec) -> None:
    assert read_model(text) == spec


def test_models_are_listed_and_stores_read_before_torch_is_there(tmp_path: Path, model: Path) -> None:
    code = f"""
import asyncio, sys
from featx.serve.answers import answers_extension, ModelSpec
from featx.serve.settings import Settings
from featx.serve.mounted import Mounts
mounts = Mounts.of(s={str(toys.make_store(tmp_path / "s.featx"))!r})
made = answers_extension(Settings(), mounts, [ModelSpec("toy", {str(model)!r})])
assert len(mounts["s"]["p0"]) == 4
endpoint = made.routes[1].endpoint
print(asyncio.run(endpoint(None)).body.decode())
print(made.figures())
print("loaded", [m for m in ("torch", "cv2", "transformers") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["models"][0]["stores"] == ["s"]
    assert done.stdout.splitlines()[-1] == "loaded []"


# --- more than can be done -------------------------------------------------------------------------------


def test_beyond_its_room_the_server_says_when_to_come_back(mounts: Mounts, model: Path) -> None:
    async def script(http: httpx.AsyncClient, extension: Extension) -> None:
        Eye.gate.clear()
        waiting = [asyncio.ensure_future(http.post("/v1/answer", **sending(10)))]
        await until(lambda: extension.figures()["featx_extractions_waiting"] == 0 and Eye.built)
        waiting += [asyncio.ensure_future(http.post("/v1/answer", **sending(11 + n))) for n in range(2)]
        await until(lambda: extension.figures()["featx_extractions_waiting"] == 2)
        full = await http.post("/v1/answer", **sending(20))
        assert (full.status_code, full.json()["error"]["code"]) == (503, "busy")
        assert int(full.headers["retry-after"]) >= 1
        assert (await http.post("/v1/answer", **asking())).status_code == 200  # a key does not wait for pictures
        Eye.gate.set()
        assert [(await one).status_code for one in waiting] == [200] * 3
        assert (await http.post("/v1/answer", **sending(20))).status_code == 200

    serve(mounts, model, script, Limits(wait=0, pictures=2))


def test_a_client_that_goes_away_holds_no_place(mounts: Mounts, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    gate, whole = threading.Event(), Predictor.batch_answers
    asked: list[str] = []

    def slow(self: Predictor, records: Any, questions: Any, top_k: int = 5) -> Any:
        assert gate.wait(30)
        asked.extend(questions)
        return whole(self, records, questions, top_k)

    monkeypatch.setattr(Predictor, "batch_answers", slow)

    async def main() -> None:
        app, extension = toys.make_app(mounts, [ModelSpec("toy", str(model))], None, Limits(batch=1, wait=0, waiting=2))
        body = {"store": "s", "key": "p0"}

        def waiting() -> float:
            return extension.figures()["featx_answers_waiting"]

        async with app.router.lifespan_context(app), client(app) as http:
            first = asyncio.ensure_future(http.post("/v1/answer", **asking(question="first")))
            # taken by the thread, which is held up
            await until(lambda: extension.figures()["featx_answers_calls_total"] == 1)
            clients = [Vanishing(app, {**body, "question": f"gone {n}"}) for n in range(2)]
            tasks = [asyncio.ensure_future(one.run()) for one in clients]
            await until(lambda: waiting() == 2)
            assert (await http.post("/v1/answer", **asking(question="late"))).status_code == 503
            for one in clients:
                one.gone.set()
            await asyncio.gather(*tasks)
            assert waiting() == 0
            last = asyncio.ensure_future(http.post("/v1/answer", **asking(question="last")))
            await until(lambda: waiting() == 1)
            gate.set()
            assert [(await one).status_code for one in (first, last)] == [200, 200]

    asyncio.run(main())
    assert asked == ["first", "last"]


def test_a_connection_that_is_closed_holds_no_place(mounts: Mounts, model: Path) -> None:
    """The same for pictures, over a socket, with the whole application."""
    import socket
    import threading

    import uvicorn

    from featx.serve.answers import answers_extension
    from featx.serve.app import make_app
    from featx.serve.settings import Settings

    extension = answers_extension(Settings(), mounts, [ModelSpec("toy", str(model))], limits=LIMITS)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(Settings(), mounts, [extension]), log_level="error"))
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
    thread.start()
    address = listener.getsockname()

    def waiting() -> float:
        return extension.figures()["featx_extractions_waiting"]

    def send(number: int) -> socket.socket:
        request = httpx.Request("POST", f"http://127.0.0.1:{address[1]}/v1/answer", **sending(number))
        body = request.read()
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        connection = socket.create_connection(address)
        connection.sendall(f"POST /v1/answer HTTP/1.1\r\n{head}\r\n".encode() + body)
        return connection

    async def main() -> None:
        Eye.gate.clear()
        first = send(30)
        await until(lambda: Eye.built and waiting() == 0)
        second = send(31)
        await until(lambda: waiting() == 1)
        second.close()
        await until(lambda: waiting() == 0)
        Eye.gate.set()
        assert (await asyncio.to_thread(first.recv, 100)).startswith(b"HTTP/1.1 200")
        first.close()

    try:
        asyncio.run(main())
    finally:
        Eye.gate.set()
        server.should_exit = True
        thread.join(30)
        listener.close()
    assert Eye.looked == [1]


def test_what_takes_too_long_is_ended_and_a_second_try_finds_it_made(mounts: Mounts, model: Path) -> None:
    async def script(http: httpx.AsyncClient, extension: Extension) -> None:
        Predictor(model)  # what there is to import is imported
        Eye.gate.clear()
        late = await http.post("/v1/answer", **sending(10))
        assert (late.status_code, late.json()["error"]["code"]) == (503, "timeout")
        Eye.gate.set()
        await until(lambda: extension.figures()["featx_extractions_total"] == 1)
        while (again := await http.post("/v1/answer", **sending(10))).status_code == 503:
            pass  # a busy machine
        assert again.status_code == 200

    serve(mounts, model, script, timeout=1.0)
    assert Eye.looked == [1]


def test_a_refused_picture_fails_nobody_else(mounts: Mounts, model: Path) -> None:
    async def script(http: httpx.AsyncClient, extension: Extension) -> None:
        Eye.gate.clear()
        first = asyncio.ensure_future(http.post("/v1/answer", **sending(10)))
        await until(lambda: extension.figures()["featx_extractions_waiting"] == 0 and Eye.built)
        bad = {"data": {"question": "?"}, "files": {"picture": ("a.png", toys.png(11)[:-40])}}
        tasks = [http.post("/v1/answer", **one) for one in (sending(12), bad, sending(13))]
        gathered = asyncio.gather(*tasks)
        await until(lambda: extension.figures()["featx_extractions_waiting"] == 3)
        Eye.gate.set()
        assert [a.status_code for a in (await first, *await gathered)] == [200, 200, 422, 200]

    serve(mounts, model, script)
    assert Eye.looked == [1, 2]


def test_a_model_that_breaks_on_one_question_answers_the_others(
    mounts: Mounts, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Predictor.batch_answers

    def fragile(self: Predictor, records: Any, questions: Any, top_k: int = 5) -> Any:
        if "poison" in questions:
            raise RuntimeError("the secret place /srv/models")
        return whole(self, records, questions, top_k)

    monkeypatch.setattr(Predictor, "batch_answers", fragile)

    async def script(http: httpx.AsyncClient, _: Extension) -> None:
        asked = (asking(question=q) for q in (TEXTS[0], "poison", TEXTS[1]))
        found = await asyncio.gather(*(http.post("/v1/answer", **one) for one in asked), return_exceptions=True)
        assert [isinstance(one, RuntimeError) or one.status_code for one in found] == [200, True, 200]

    serve(mounts, model, script, Limits(batch=3, wait=30))


# --- what is asked wrongly -------------------------------------------------------------------------------

BAD_JSON: list[tuple[Any, str]] = [
    ([], "object"), ("x", "object"), ({}, "store and key"), ({"store": "s", "key": "p0"}, "question"),
    ({"key": "p0", "question": "?"}, "store is missing"), ({"store": 1, "key": "p0", "question": "?"}, "expected text"),
    ({"store": "s", "key": "p0", "question": "?", "top_k": True}, "expected a number"),
    ({"store": "s", "key": "p0", "question": "?", "top_k": 0}, "top_k is 0"),
    ({"store": "s", "key": "p0", "question": "?", "top_k": 10**9}, "top_k"),
    ({"store": "s", "key": "p0", "question": "?", "explain": "yes"}, "true or false"),
    ({"store": "s", "key": "p0", "question": "?", "path": "/etc"}, "no field"),
    ({"store": "s", "key": "a\nb", "question": "?"}, "control characters"),
    ({"store": "s", "key": "", "question": "?"}, "empty key"),
    ({"store": "s", "key": "p0", "question": "\ud800"}, "no text"),
    ({"store": "s", "key": "p0", "question": "a" * 2001}, "2001 characters"),
    ({"store": "s", "key": "p0", "question": " "}, "question"),
]  # fmt: skip


def test_what_cannot_be_read_is_said_in_a_sentence(mounts: Mounts, model: Path) -> None:
    async def script(http: httpx.AsyncClient, _: Extension) -> None:
        json_type = {"content-type": "application/json"}
        for body, words in BAD_JSON:
            answer = await http.post("/v1/answer", content=json.dumps(body).encode(), headers=json_type)
            assert answer.status_code == 400, body
            assert words in answer.json()["error"]["message"], body
        for raw in (b"", b"{", b"\xff", b"[" * 50_000, b"1" * 5000):
            assert (await http.post("/v1/answer", content=raw, headers=json_type)).status_code == 400
        picture = {"picture": ("a.png", toys.png(0))}
        forms: list[dict[str, Any]] = [
            {"data": {"store": "s"}, "files": {"picture": ("a", b"")}} | {"data": {"store": "s", "key": "p0"}},
            {"data": {"top_k": "x"}, "files": picture}, {"data": {"explain": "1"}, "files": picture},
            {"data": {"other": "1"}, "files": picture},
            {"data": {"picture": "no file"}, "files": {"store": ("s", b"s")}},
            {"files": [("picture", ("a", b"1")), ("picture", ("b", b"2"))]},
            {"files": [("question", (None, "a")), ("question", (None, "b"))]},
        ]  # fmt: skip
        for form in forms:
            assert (await http.post("/v1/answer", **form)).status_code == 400, form
        for kind, content, status in (
            ("text/plain", b"hello", 415), ("multipart/form-data", b"x", 400),
            ("multipart/form-data; boundary=a", b"--b\r\n", 400), ("application/json", b" " * 70_000, 413),
        ):  # fmt: skip
            answer = await http.post("/v1/answer", content=content, headers={"content-type": kind})
            assert answer.status_code == status, kind
        for store, key in (("t", "p0"), ("s", "p9"), ("../s", "p0"), ("s", "../../etc/passwd")):
            answer = await http.post("/v1/answer", json={"store": store, "key": key, "question": "?"})
            assert answer.status_code == 404
        assert (await http.post("/v1/answer", **asking(model="m"))).status_code == 404

    serve(mounts, model, script)


def test_pictures_go_through_the_decoding_policy(mounts: Mounts, model: Path) -> None:
    async def script(http: httpx.AsyncClient, _: Extension) -> None:
        for data, code in ((b"", "empty"), (b"%PDF-1.7", "unsupported"), (b"hello world", "not-an-image"),
                           (toys.png(0)[:20], "truncated"), (toys.png(0), "too-large")):  # fmt: skip
            answer = await http.post("/v1/answer", data={"question": "?"}, files={"picture": ("../../x.png", data)})
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)

    serve(mounts, model, script, Limits(wait=0, pixels=40 * 60 - 1))
    assert Eye.looked == []


def test_a_body_over_the_limit_is_refused_whether_it_says_its_length_or_not(mounts: Mounts, model: Path) -> None:
    async def script(http: httpx.AsyncClient, _: Extension) -> None:
        assert (await http.post("/v1/answer", **sending(0))).status_code == 413
        request = http.build_request("POST", "/v1/answer", **sending(0))
        body, read = request.read(), 0

        async def pieces() -> Any:
            nonlocal read
            for begin in range(0, len(body), 500):
                read += 1
                yield body[begin : begin + 500]

        headers = {"content-type": request.headers["content-type"]}
        assert (await http.post("/v1/answer", content=pieces(), headers=headers)).status_code == 413
        assert (await http.post("/v1/answer", **asking())).status_code == 200

    serve(mounts, model, script, max_body=3000)


def test_bodies_in_memory_are_bounded_all_together(mounts: Mounts, model: Path) -> None:
    async def script(http: httpx.AsyncClient, extension: Extension) -> None:
        size = len(http.build_request("POST", "/v1/answer", **sending(0)).read())
        assert 7000 < size < 8000  # of which 4 x 8000 bytes may be there
        Eye.gate.clear()
        tasks = [asyncio.ensure_future(http.post("/v1/answer", **sending(0))) for _ in range(4)]
        await until(lambda: extension.figures()["featx_extractions_joined_total"] == 3)
        fifth = await http.post("/v1/answer", **sending(0))
        assert (fifth.status_code, fifth.headers["retry-after"]) == (503, "1")
        Eye.gate.set()
        assert [(await one).status_code for one in tasks] == [200] * 4
        assert (await http.post("/v1/answer", **sending(0))).status_code == 200

    serve(mounts, model, script, max_body=8000)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    body=st.one_of(
        st.binary(max_size=300).map(lambda raw: ("application/json", raw)),
        st.dictionaries(
            st.sampled_from(["store", "key", "question", "language", "model", "top_k", "explain", "x"]),
            st.one_of(
                st.none(), st.booleans(), st.integers(), st.sampled_from(["s", "p0", "toy", "en"]), st.text(max_size=8)
            ),
        ).map(lambda asked: ("application/json", json.dumps(asked).encode())),
        st.binary(max_size=300).map(
            lambda raw: ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="' + raw)
        ),
    )
)  # fmt: skip
def test_whatever_is_sent_is_no_error_of_the_server(shared_app: Any, body: tuple[str, bytes]) -> None:
    loop, http = shared_app
    answer = loop.run_until_complete(http.post("/v1/answer", content=body[1], headers={"content-type": body[0]}))
    assert answer.status_code in (200, 400, 404, 413, 422)
    assert answer.status_code == 200 or set(answer.json()["error"]) == {"code", "message", "hint"}


@pytest.fixture
def shared_app(mounts: Mounts, model: Path) -> Iterator[Any]:
    app, _ = toys.make_app(mounts, [ModelSpec("toy", str(model))], None, LIMITS)
    with asyncio.Runner() as runner:
        loop, http = runner.get_loop(), client(app)
        context = app.router.lifespan_context(app)
        loop.run_until_complete(context.__aenter__())
        yield loop, http
        loop.run_until_complete(http.aclose())
        loop.run_until_complete(context.__aexit__(None, None, None))
