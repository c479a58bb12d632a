"""The flags by which a language model makes a sentence of a model's answers, and who does."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featx.cli.subject import Subject, look, tell_notes
from featx.errors import UsageError
from featx.llm import KEY, TIMEOUT, Endpoint
from featx.prompt import build_prompt

PRINT = "print"  # show the prompt, and ask nobody


def add_sentence(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("--llm", metavar="URL[#MODEL]|print",
                        help="a language model (OpenAI-compatible) makes a sentence of caption, question and answers; "
                        "print: show what it would be told")  # fmt: skip
    parser.add_argument("--caption", metavar="TEXT", help="with --llm: what is on the picture, in English")
    parser.add_argument("--caption-model", metavar="DIR", help="with --llm: a model that writes the caption")
    parser.add_argument("--llm-key", metavar="VARIABLE", default=KEY,
                        help=f"the environment variable with the key for --llm (default {KEY})")  # fmt: skip
    parser.add_argument("--llm-timeout", metavar="SECONDS", type=float, default=TIMEOUT,
                        help=f"how long --llm may take for an answer (default {TIMEOUT:g})")  # fmt: skip


@dataclass(frozen=True)
class Speaker:
    """A language model, None where the prompt is only shown, and the caption, or the model that writes it."""

    endpoint: Endpoint | None
    caption: str | None
    model: str | None

    def caption_of(self, subject: Subject, options: argparse.Namespace) -> str:
        """What is said to be on the picture, in English."""
        if self.caption is not None:
            return self.caption
        from featx.captioner import Captioner

        captioner = Captioner(
            str(self.model), subject.store, device=options.device, allow_mismatch=options.allow_mismatch
        )
        found: str = captioner(look(captioner.sight, subject.picture), "en")
        tell_notes(captioner.sight)
        if not found.strip():
            raise UsageError(f"{self.model} writes an empty caption", "say what is on the picture: --caption TEXT")
        return found

    def say(self, caption: str, question: str, candidates: Sequence[Any]) -> tuple[str, str | None]:
        """The prompt, and the sentence that is made of it."""
        prompt = build_prompt(caption, question, candidates)
        return prompt, None if self.endpoint is None else self.endpoint(prompt)


def read_speaker(options: argparse.Namespace) -> Speaker | None:
    """Who makes sentences, by the flags; None without ``--llm``. Raises UsageError before any model is loaded."""
    given = [name for name in ("caption", "caption_model") if getattr(options, name) is not None]
    if options.llm is None:
        if given:
            raise UsageError(f"--{given[0].replace('_', '-')} is given without --llm", "name it, or --llm print")
        return None
    if len(given) != 1:
        found = "--caption and --caption-model are both given" if given else "--llm is told no caption"
        raise UsageError(found, "give --caption TEXT, or a model that writes captions: --caption-model DIR")
    if options.caption is not None and not options.caption.strip():
        raise UsageError("--caption is empty", "say what is on the picture")
    if options.score == "logit":
        raise UsageError("--llm is told how sure answers are, and a logit does not say", "leave out --score logit")
    endpoint = None
    if options.llm != PRINT:
        endpoint = Endpoint.read(options.llm, key=options.llm_key, timeout=options.llm_timeout)
    return Speaker(endpoint, options.caption, options.caption_model)
