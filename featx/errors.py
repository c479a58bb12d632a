"""The one exception tree of featx. Each branch has an exit code and a hint.

Every message says three things: what was found, what was expected, what to do next.
The command line prints ``message`` and ``hint`` on stderr, without a traceback, and exits with
``exit_code``; a program catches :class:`FeatxError` or one of its branches. Exit codes::

    0    done
    1    unexpected error, a comparison that failed, or a training loss that is no longer a number
    2    wrong usage or input, or a file that cannot be read or written
    3    finished, but refused more pictures than --max-refused
    4    store damaged, unfinished, locked by another process, or not a store
    5    an optional package is missing; the message has the line that installs it
    130  interrupted; the state is kept and the message says how to resume
"""

from __future__ import annotations


class FeatxError(Exception):
    """Base of every error featx raises on purpose (exit code 1)."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.hint}" if self.hint else self.message


class UsageError(FeatxError):
    """Wrong usage or input, or a file that cannot be read or written (exit code 2)."""

    exit_code = 2


class WeightsError(UsageError):
    """Weights that cannot be found, trusted or understood (exit code 2)."""


class RecordError(UsageError):
    """A record that breaks the contract: shape, dtype, finiteness or boxes (exit code 2)."""


class KeyNotFound(UsageError, KeyError):
    """A key the store does not hold (exit code 2)."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return FeatxError.__str__(self)


class TooManyRefused(FeatxError):
    """The run finished, but refused more pictures than allowed (exit code 3)."""

    exit_code = 3


class StoreError(FeatxError):
    """A store that is damaged, unfinished or locked by another process, or what is not a store (exit code 4)."""

    exit_code = 4


class StoreBusy(StoreError):
    """A store, or a part of one, that another process is writing (exit code 4)."""

    exit_code = 4


class StoreDamaged(StoreError):
    """Bytes of a store are not what was written: structure, size or checksum (exit code 4)."""


class MissingDependency(FeatxError):
    """An optional package is needed and absent; the hint is the line that installs it (exit code 5)."""

    exit_code = 5


class Interrupted(FeatxError):
    """The user stopped the run; its state is kept and the hint says how to resume (exit code 130)."""

    exit_code = 130


class PictureRefused(FeatxError):
    """One picture that cannot be used. It becomes a line of the ledger and the run goes on.

    ``reason`` is a short stable word for counting and filtering (``empty``, ``truncated``, ...);
    the message is for people.
    """

    exit_code = 3

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.reason = reason
