"""A language model behind an address: any endpoint that answers as OpenAI's ``/chat/completions`` does.

Nothing is asked unless a person names the address. The key, where one is needed, comes from an environment variable and
goes to that address only: a redirect is refused.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from dataclasses import dataclass
from typing import IO, Any, NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from featx.errors import UsageError

KEY = "FEATX_LLM_KEY"  # the environment variable that holds the key
TIMEOUT = 60.0  # seconds
_PATH = "/chat/completions"
_LONGEST = 1 << 20  # bytes of a reply
_CHUNK = 1 << 14


@dataclass(frozen=True)
class Endpoint:
    """A function of a prompt. address: up to and without ``/chat/completions``; model: its name there, None where there
    is but one; key: the name of the environment variable with the key, which may be absent; timeout: seconds for all
    of one answer.
    """

    address: str
    model: str | None = None
    key: str = KEY
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"{self.address!r} is no address of a language model",
                "give URL or URL#MODEL, such as http://localhost:8000/v1#my-model",
            )
        if parts.username or parts.password or parts.query:
            raise UsageError(
                f"the address of {parts.hostname} holds a name, a password or a query", f"put the key into {self.key}"
            )
        if not self.timeout > 0:
            raise UsageError(f"the timeout is {self.timeout}", "give seconds above 0")

    @classmethod
    def read(cls, text: str, *, key: str = KEY, timeout: float = TIMEOUT) -> Endpoint:
        """Of ``URL`` or ``URL#MODEL``. Raises UsageError for anything else."""
        address, _, model = text.partition("#")
        return cls(address.rstrip("/").removesuffix(_PATH), model or None, key, timeout)

    def __call__(self, prompt: str) -> str:
        """What the model says. Raises UsageError when it cannot be reached, refuses, is too slow, or says nothing."""
        content = self._asked(prompt)
        try:
            said = json.loads(content)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            self._fail(f"answered something else than a chat completion: {_start(content)}", "check the address")
        if not isinstance(said, str) or not said.strip():
            self._fail("said nothing", "ask again, or another model")
        return str(said).strip()

    def _asked(self, prompt: str) -> bytes:
        body: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, "stream": False}
        if self.model is not None:
            body["model"] = self.model
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "featx"}
        secret = os.environ.get(self.key, "").strip()
        if secret:
            headers["Authorization"] = f"Bearer {secret}"
        try:
            request = Request(f"{self.address}{_PATH}", json.dumps(body).encode(), headers, method="POST")
            end = time.monotonic() + self.timeout
            with build_opener(_Stay).open(request, timeout=self.timeout) as reply:
                return self._read(reply, end)
        except HTTPError as error:
            self._refused(error, bool(secret))
        except TimeoutError:
            self._slow()
        except URLError as error:
            if isinstance(error.reason, TimeoutError | socket.timeout):
                self._slow()
            self._fail(f"cannot be reached: {error.reason}", "check the address, and that the server runs")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._fail(f"broke off: {type(error).__name__}", "check the address, the key, and that the server runs")

    def _read(self, reply: IO[bytes], end: float) -> bytes:
        """All of a reply, in what is left of the time."""
        parts = b""
        while chunk := reply.read1(_CHUNK) if hasattr(reply, "read1") else reply.read(_CHUNK):
            parts += chunk
            if time.monotonic() > end:
                self._slow()
            if len(parts) > _LONGEST:
                self._fail(f"answered more than {_LONGEST >> 20} MiB", "check the address")
        return parts

    def _refused(self, error: HTTPError, keyed: bool) -> NoReturn:
        with error:  # it is the reply, which holds a connection
            try:
                words = _start(error.read(_CHUNK))
            except (OSError, http.client.HTTPException):
                words = ""
        hints = {
            401: f"the key in {self.key} is not accepted" if keyed else f"it wants a key: put it into {self.key}",
            403: f"the key in {self.key} may not do this" if keyed else f"it wants a key: put it into {self.key}",
            404: "check address and model: URL#MODEL, the address up to and without /chat/completions",
            429: "it is asked too often: wait, and ask again",
        }
        moved = f"it moved: name its new address, {error.headers.get('Location')}" if 300 <= error.code < 400 else ""
        hint = hints.get(error.code) or moved or "its own words may tell"
        self._fail(f"answered {error.code} {error.reason}{f': {words}' if words else ''}", hint)

    def _slow(self) -> NoReturn:
        self._fail(f"did not answer within {self.timeout:g} seconds", "give it more time: --llm-timeout SECONDS")

    def _fail(self, what: str, hint: str) -> NoReturn:
        raise UsageError(f"the language model at {self.address} {what}", hint) from None


class _Stay(HTTPRedirectHandler):
    """Goes nowhere else: urllib would take the key along."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _start(content: bytes) -> str:
    """The first words of a reply, on one line, with nothing that a terminal could take for a command."""
    text = " ".join(content[:2000].decode("utf-8", "replace").split())
    text = "".join(letter for letter in text if letter.isprintable())
    return text if len(text) <= 200 else text[:197] + "..."
