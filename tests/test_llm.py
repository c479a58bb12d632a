"""The prompt of a language model, the endpoint that is asked, and ``featx ask --llm``; servers are of this machine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from featx.captioner import Captioner
from featx.clip_mbart.consumer import save
from featx.errors import UsageError
from featx.llm import KEY, Endpoint
from featx.prompt import answer, build_prompt
from tests import mbart_toys, vle_toys
from tests.test_predictor import TEXTS
from tests.test_predictor_cli import place, run, template
from tests.test_vle_consumer import write

__all__ = ["place", "template"]  # fixtures

PROMPT = """\
You answer a question about a picture that you cannot see. Two other models have looked at it.

Caption of the picture: two fish on a plate
Question: What is on the plate?
Possible answers, each with a confidence from 0 to 1, the surest first:
- fish (0.73)
- fishing (0.19)
- (nothing) (0.00)

The caption may be incomplete and the answers may be wrong. Prefer the surest answer unless it does not fit the
question or the caption. Answer the question in one short sentence, in the language of the question. Write nothing else,
and do not mention the caption, the candidates or their confidence.
"""


@dataclass
class Server:
    """What it is to answer, and what it was asked: (path, headers, body)."""

    port: int = 0
    status: int = 200
    body: bytes = b'{"choices": [{"message": {"role": "assistant", "content": " Two fish. "}}]}'
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    drip: float = 0.0
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.asked.append((self.path, dict(self.headers), json.loads(body)))
            time.sleep(state.wait)
            self.send_response(state.status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for byte in range(len(state.body)) if state.drip else ():
                    self.wfile.write(state.body[byte : byte + 1])
                    self.wfile.flush()
                    time.sleep(state.drip)
                if not state.drip:
                    self.wfile.write(state.body)
            except OSError:  # who asked has gone
                return

        def do_GET(self) -> None:
            state.asked.append((self.path, dict(self.headers), None))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = running.server_address[1]
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    running.shutdown()
    thread.join()
    running.server_close()


def test_the_prompt_is_the_template_with_the_surest_answer_first() -> None:
    given = [("fishing", 0.19), {"answer": "fish", "score": 0.731}, ("", 0.0)]
    assert build_prompt("two fish\n on a plate ", "What is on the\tplate?", given) == PROMPT
    assert answer("two fish on a plate", "What is on the plate?", given, lambda prompt: f" {len(prompt)}\n") == str(
        len(PROMPT)
    )
    equal = build_prompt("a {b}", "{c}?", [("x", 0.5), ("y", 0.5)])
    assert "picture: a {b}\nQuestion: {c}?\n" in equal
    assert equal.index("- x") < equal.index("- y")


@pytest.mark.parametrize(
    ("caption", "question", "candidates", "words"),
    [
        (" ", "what?", [("a", 1.0)], "the caption is ' '"),
        ("a", "", [("a", 1.0)], "the question is ''"),
        ("a", "what?", [], "no candidate"),
        ("a", "what?", [("a", 3.2)], "score of 'a' is 3.2"),
        ("a", "what?", [("a", float("nan"))], "score of 'a' is nan"),
        ("a", "what?", [("a", True)], "a candidate is"),
    ],
)
def test_a_prompt_without_content_is_refused(caption: str, question: str, candidates: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_prompt(caption, question, candidates)


def test_the_endpoint_is_asked_as_openai_is(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret\n")
    assert Endpoint.read(f"{server.address}/#small")("Hello") == "Two fish."
    path, headers, body = server.asked[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert body == {
        "model": "small", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0, "stream": False,
    }  # fmt: skip
    monkeypatch.delenv(KEY)
    monkeypatch.setenv("OTHER", "another")
    assert Endpoint.read(f"{server.address}/chat/completions")("Hello") == "Two fish."
    assert Endpoint.read(server.address, key="OTHER")("Hello") == "Two fish."
    assert [(p, h.get("Authorization"), "model" in b) for p, h, b in server.asked[1:]] == [
        (path, None, False), (path, "Bearer another", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words", "hint"),
    [
        ({"status": 401, "body": b'{"error": "no\x1b[31m key"}'},
         r'answered 401 Unauthorized: {"error": "no\[31m key"}', f"wants a key: put it into {KEY}"),
        ({"status": 404, "body": b""}, "answered 404 Not Found", "URL#MODEL"),
        ({"status": 429}, "answered 429", "too often"),
        ({"status": 500}, "answered 500", "its own words"),
        ({"body": b"<html>"}, "something else than a chat completion: <html>", "check the address"),
        ({"body": b'{"choices": []}'}, "something else", "check the address"),
        ({"body": b'{"choices": [{"message": {"content": null}}]}'}, "said nothing", "ask again"),
        ({"headers": {"Content-Length": "999"}, "body": b'{"choices": '}, "something else", "check the address"),
        ({"body": b"x" * (1 << 21)}, "more than 1 MiB", "check the address"),
    ],
)  # fmt: skip
def test_what_a_server_says_instead_is_told(
    server: Server, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str, hint: str
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    for name, value in changes.items():
        setattr(server, name, value)
    with pytest.raises(UsageError, match=words) as found:
        Endpoint(server.address)("Hello")
    assert hint in found.value.hint


def test_a_redirect_is_not_followed_and_the_key_not_taken_along(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "secret")
    server.status, server.headers = 302, {"Location": f"http://127.0.0.1:{server.port}/elsewhere"}
    with pytest.raises(UsageError, match="answered 302") as found:
        Endpoint(server.address)("Hello")
    assert "/elsewhere" in found.value.hint
    assert len(server.asked) == 1
    assert "secret" not in str(found.value)


@pytest.mark.parametrize("way", ["wait", "drip"])
def test_a_server_that_is_too_slow_is_left(server: Server, way: str) -> None:
    setattr(server, way, {"wait": 1.0, "drip": 0.05}[way])
    begun = time.monotonic()
    with pytest.raises(UsageError, match=r"did not answer within 0.2 seconds"):
        Endpoint(server.address, timeout=0.2)("Hello")
    assert time.monotonic() - begun < 0.9


@pytest.mark.parametrize(
    "address", ["localhost:80", "ftp://x/v1", "file:///etc/hosts", "http://", "http://me:pass@x/v1", "http://x/v1?k=1"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        Endpoint.read(address)
    with pytest.raises(UsageError, match="timeout is 0"):
        Endpoint.read("http://x/v1", timeout=0)


def test_a_server_that_is_not_there_and_a_key_that_is_none(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="cannot be reached"):
        Endpoint("http://127.0.0.1:1/v1", timeout=5)("Hello")
    monkeypatch.setenv(KEY, "a\nb")
    with pytest.raises(UsageError, match="broke off") as found:
        Endpoint(server.address)("Hello")
    assert "a\nb" not in str(found.value)


def test_ask_makes_a_sentence_of_the_answers(
    place: Path,
    server: Server,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["ask", "store", "p1", TEXTS[0], "--model", "model", "--caption", "red and blue boxes"]
    out, _ = run(*words, "--llm", f"{server.address}#m", capsys=capsys)
    assert out.splitlines()[:2] == [TEXTS[0], "  Two fish."]
    told = server.asked[0][2]["messages"][0]["content"]
    plain, _ = run(*words[:6], "--json", capsys=capsys)
    answers = json.loads(plain)["replies"][0]["answers"]["model"]
    assert told == build_prompt("red and blue boxes", TEXTS[0], answers)
    out, _ = run(*words, "--llm", server.address, "--json", capsys=capsys)
    (reply,) = json.loads(out)["replies"]
    assert (reply["prompt"], reply["sentence"]) == (told, "Two fish.")
    out, _ = run(*words, "--llm", "print", capsys=capsys)
    assert out == told
    assert len(server.asked) == 2
    out, _ = run(*words, "--llm", "print", "--json", capsys=capsys)
    assert json.loads(out)["replies"][0]["sentence"] is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--llm", "print"], "told no caption"),
        (["--llm", "print", "--caption", "a", "--caption-model", "x"], "both given"),
        (["--llm", "print", "--caption", " "], "--caption is empty"),
        (["--caption", "a"], "--caption is given without --llm"),
        (["--llm", "print", "--caption", "a", "--score", "logit"], "a logit does not say"),
        (["--llm", "nowhere", "--caption", "a"], "is no address of a language model"),
        (["--llm", "print", "--caption-model", "model"], "does not write captions"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    words: str,
) -> None:
    _, err = run("ask", "store", "p1", TEXTS[0], "--model", "model", *more, capsys=capsys, code=2)
    assert words in err


def test_a_question_in_another_language_is_told_in_english(
    place: Path,
    server: Server,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.body = b'{"choices": [{"message": {"content": "red"}}]}'
    korean = ["--language", "ko", "--translator", "ko.json"]
    words = ["ask", "store", "p1", "무슨 색입니까?", "--model", "model", *korean, "--caption", "boxes"]
    out, _ = run(*words, "--llm", server.address, capsys=capsys)
    told = server.asked[0][2]["messages"][0]["content"]
    assert f"Question: {TEXTS[0]}\n" in told
    assert told.isascii()
    assert out.splitlines()[1] == "  빨강"


def test_the_caption_may_be_that_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both models read the same store."""
    store, writer = vle_toys.make_store(tmp_path / "store"), tmp_path / "writer"
    model = write(tmp_path / "model")
    words = mbart_toys.vocabulary()
    writer.mkdir()
    wants = {"dim": mbart_toys.DIM, "profile": "profile-1", "weights": "weights-1"}
    save(writer, *mbart_toys.network(len(words)), words, {"languages": ["en"], "max_length": 24, "wants": wants})
    out, _ = run("ask", str(store), "p1", "what is in the first corner?", "--model", str(model), "--caption-model",
                 str(writer), "--llm", "print", capsys=capsys)  # fmt: skip
    caption = Captioner(writer, store)("p1", "en")
    assert f"Caption of the picture: {' '.join(caption.split())}\nQuestion: what is in the first corner?\n" in out
    assert out.count("\n- ") == 3  # this model knows three answers
