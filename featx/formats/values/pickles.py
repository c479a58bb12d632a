"""Pickles of other people, read without running them: a small machine of our own, not Python's unpickler.

It knows the opcodes of protocols 0 to 5 that make numbers, text, bytes, plain containers and numpy arrays, and a short
table of names, none of which is ever called: what ``numpy.core.multiarray._reconstruct`` would make is made in
``remake``. Every other name, and every opcode that could reach one, is refused. Time and memory are bounded by the
length of the input: no length is believed that the input does not back, and nothing is copied more often than a budget
allows.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any

from featx.errors import UsageError
from featx.formats.options import Options
from featx.formats.values.extent import check_extent
from featx.formats.values.remake import TABLE, Dtype, Name, PickleRefused, build, hashable, make, plain, refused

__all__ = ["LIMIT", "PickleRefused", "loads", "need_trust"]

LIMIT = 1 << 30  # bytes of one pickle; an index of ten million keys has less
_NUMBER = 256  # bytes of a whole number


def need_trust(options: Options, what: str) -> None:
    """Raise UsageError unless the user allowed pickles; ``what`` is the subject: ``mmf.npy keeps its boxes``."""
    if not options.allow_pickle:
        raise UsageError(
            f"{what} in pickles, and a pickle can run whatever its maker wrote into it",
            "--allow-pickle reads them by an unpickler that makes numbers, text, plain containers and numpy arrays, "
            "and refuses all else",
        )


def loads(data: bytes | bytearray | memoryview, limit: int = LIMIT) -> Any:
    """The object in a pickle; text of Python 2 is read as latin-1, arrays are read-only views where they can be.

    Raises PickleRefused for what is damaged, too large, or is no plain data.
    """
    if len(data) > limit:
        raise PickleRefused(f"a pickle of {len(data)} bytes is longer than the {limit} that are read", "split it")
    machine = _Machine(data)
    try:
        return machine.run()
    except PickleRefused:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, struct.error, MemoryError) as error:
        raise refused(f"it is damaged at byte {machine.at} ({type(error).__name__}: {error})") from None


class _Machine:
    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.data = memoryview(data).cast("B")
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.budget = 4 * len(self.data) + (1 << 16)  # bytes that may be copied

    def run(self) -> Any:
        while True:
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                found = plain(self.pop())
                check_extent(found, len(self.data))
                return found
            step = _STEPS.get(code)
            if step is None:
                raise refused(f"opcode {bytes([code])!r} at byte {self.at - 1} is none that plain data needs")
            step(self)

    def take(self, count: int) -> memoryview:
        if not 0 <= count <= len(self.data) - self.at:
            raise refused(f"{count} bytes are wanted at byte {self.at} of {len(self.data)}: it is cut or damaged")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def line(self) -> bytes:
        rest = self.at
        for step in range(rest, len(self.data), 4096):
            found = self.data[step : step + 4096].tobytes().find(b"\n")
            if found >= 0:
                self.at = step + found + 1
                return self.data[rest : self.at - 1].tobytes()
        raise refused(f"a line that begins at byte {rest} has no end: it is cut")

    def charge(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise refused("what it makes grows far beyond its own length")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise refused(f"the stack is empty at byte {self.at}: it is damaged")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.push(value)
        return value

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise refused(f"no mark for byte {self.at}: it is damaged")
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items


def _reduce(machine: _Machine) -> None:
    given, name = machine.pop(), machine.pop()
    if not isinstance(name, Name) or not isinstance(given, tuple):
        raise refused(f"byte {machine.at} calls what is no name of the table")
    machine.push(make(machine.charge, name.name, given))


def _build(machine: _Machine) -> None:
    state = machine.pop()
    build(machine.charge, machine.top(), state)


def _global(machine: _Machine, module: str, name: str) -> None:
    found = TABLE.get((module, name))
    if found is None:
        raise refused(f"it asks for {module}.{name}")
    machine.push(Name(found))


def _global_line(machine: _Machine) -> None:
    module, name = machine.line().decode("latin-1"), machine.line().decode("latin-1")
    _global(machine, module, name)


def _global_stack(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise refused("a name on the stack is no text")
    _global(machine, module, name)


def _integer(machine: _Machine) -> None:
    line = machine.line()
    if len(line) > _NUMBER:
        raise refused(f"a number of {len(line)} digits")
    machine.push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line.rstrip(b"L")))


def _long(form: str) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        count = machine.number(form)
        if count > _NUMBER:
            raise refused(f"a number of {count} bytes")
        machine.push(int.from_bytes(machine.take(count), "little", signed=True))

    return step


def _text(form: str, encoding: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(str(m.take(m.number(form)), encoding, "surrogatepass" if encoding == "utf-8" else "strict"))


def _quoted(machine: _Machine) -> None:
    line = machine.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise refused(f"the text before byte {machine.at} is not quoted")
    machine.push(codecs.escape_decode(line[1:-1])[0].decode("latin-1"))


def _bytearray(machine: _Machine) -> None:
    raw = machine.take(machine.number("Q"))
    machine.push(bytearray(raw))


def _append(machine: _Machine, items: list[Any]) -> None:
    into = machine.top()
    if not isinstance(into, list):
        raise refused(f"byte {machine.at} appends to a {type(into).__name__}")
    into.extend(map(plain, items))


def _set_items(machine: _Machine, items: list[Any]) -> None:
    into = machine.top()
    if not isinstance(into, dict) or len(items) % 2:
        raise refused(f"byte {machine.at} sets items of a {type(into).__name__}")
    into.update((hashable(key), plain(value)) for key, value in zip(items[::2], items[1::2], strict=True))


def _add_items(machine: _Machine) -> None:
    items, into = machine.since_mark(), machine.top()
    if not isinstance(into, set):
        raise refused(f"byte {machine.at} adds members to a {type(into).__name__}")
    into.update(map(hashable, items))


def _dict(machine: _Machine) -> None:
    items = machine.since_mark()
    machine.push({})
    _set_items(machine, items)


def _tuple(machine: _Machine, items: list[Any]) -> None:
    machine.push(tuple(_finished(item) for item in items))


def _finished(value: Any) -> Any:
    """In a tuple names and dtypes may stand: it can be what a name is called with."""
    return value if isinstance(value, Name | Dtype) else plain(value)


def _put(machine: _Machine, place: int) -> None:
    machine.memo[place] = machine.top()


def _get(machine: _Machine, place: int) -> None:
    if place not in machine.memo:
        raise refused(f"byte {machine.at} looks up what was never noted: it is damaged")
    machine.push(machine.memo[place])


def _last(machine: _Machine, count: int) -> list[Any]:
    return [machine.pop() for _ in range(count)][::-1]


def _pop_or_mark(machine: _Machine) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.pop()


_STEPS: dict[int, Callable[[_Machine], Any]] = {
    ord(code): step
    for code, step in {
        "\x80": lambda m: m.number("B"), "\x95": lambda m: m.number("Q"),  # PROTO, FRAME
        "(": lambda m: m.marks.append(len(m.stack)), "0": _pop_or_mark, "1": lambda m: m.since_mark(),
        "2": lambda m: m.push(m.top()),
        "N": lambda m: m.push(None), "\x88": lambda m: m.push(True), "\x89": lambda m: m.push(False),
        "I": _integer, "L": _integer, "J": lambda m: m.push(m.number("i")), "K": lambda m: m.push(m.number("B")),
        "M": lambda m: m.push(m.number("H")), "\x8a": _long("B"), "\x8b": _long("I"),
        "F": lambda m: m.push(float(m.line())), "G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
        "S": _quoted, "T": _text("i", "latin-1"), "U": _text("B", "latin-1"),
        "V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
        "X": _text("I", "utf-8"), "\x8c": _text("B", "utf-8"), "\x8d": _text("Q", "utf-8"),
        "B": lambda m: m.push(m.take(m.number("I")).tobytes()), "C": lambda m: m.push(m.take(m.number("B")).tobytes()),
        "\x8e": lambda m: m.push(m.take(m.number("Q")).tobytes()), "\x96": _bytearray,
        "]": lambda m: m.push([]), "l": lambda m: m.push(list(map(plain, m.since_mark()))),
        "a": lambda m: _append(m, _last(m, 1)), "e": lambda m: _append(m, m.since_mark()),
        "}": lambda m: m.push({}), "d": _dict, "s": lambda m: _set_items(m, _last(m, 2)),
        "u": lambda m: _set_items(m, m.since_mark()),
        ")": lambda m: m.push(()), "t": lambda m: _tuple(m, m.since_mark()), "\x85": lambda m: _tuple(m, _last(m, 1)),
        "\x86": lambda m: _tuple(m, _last(m, 2)), "\x87": lambda m: _tuple(m, _last(m, 3)),
        "\x8f": lambda m: m.push(set()), "\x90": _add_items,
        "\x91": lambda m: m.push(frozenset(map(hashable, m.since_mark()))),
        "p": lambda m: _put(m, int(m.line())), "q": lambda m: _put(m, m.number("B")),
        "r": lambda m: _put(m, m.number("I")), "\x94": lambda m: _put(m, len(m.memo)),
        "g": lambda m: _get(m, int(m.line())), "h": lambda m: _get(m, m.number("B")),
        "j": lambda m: _get(m, m.number("I")),
        "c": _global_line, "\x93": _global_stack, "R": _reduce, "b": _build,
    }.items()
}  # fmt: skip
