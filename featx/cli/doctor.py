"""``featx doctor``: what is installed, what was compiled, what is missing and how to get it."""

from __future__ import annotations

import argparse
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import NamedTuple

from featx import __version__
from featx.cli.output import add_json, print_json, table
from featx.errors import FeatxError
from featx.registry import survey

NEEDED = ("numpy", "h5py", "lmdb", "joblib", "pillow", "PyYAML", "safetensors", "tqdm", "xxhash", "fsspec")
OPTIONAL = {"huggingface_hub": "weights by hub id: pip install huggingface_hub"}


class Finding(NamedTuple):
    """One line: ``state`` is ok, missing or warning; ``advice`` says what to do about the last two."""

    part: str
    state: str
    found: str
    advice: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the findings; 5 when something needed is missing."""
    found = list(findings())
    if options.json:
        print_json([finding._asdict() for finding in found])
    else:
        marks = {"ok": "ok", "missing": "--", "warning": "! "}
        print(table([(marks[f.state], f.part, f.found, f.advice) for f in found]))
    return 5 if any(f.state == "missing" and f.part in (*NEEDED, "torch", "opencv") for f in found) else 0


def findings() -> Iterator[Finding]:
    """Everything worth knowing, needed things first."""
    yield Finding("featx", "ok", f"{__version__} on Python {platform.python_version()}, {platform.machine()}")
    for name in NEEDED:
        yield package(name, f"pip install {name}", "missing")
    for check in (opencv, torch, native, store_reader):
        yield check()
    for name, advice in OPTIONAL.items():
        yield package(name, advice, "warning")
    for plugin in survey():
        kind = plugin.group.removeprefix("featx.").removesuffix("s")
        state = "warning" if plugin.problem else "ok"
        yield Finding(f"{kind} {plugin.name}", state, plugin.package, plugin.problem.replace("\n", " "))


def package(name: str, advice: str, otherwise: str) -> Finding:
    """Whether a distribution is installed."""
    try:
        return Finding(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, otherwise, "not installed", advice)


def opencv() -> Finding:
    """OpenCV, which must be recent enough to refuse truncated JPEGs."""

    def look() -> Finding:
        from featx.decode import opencv as load

        return Finding("opencv", "ok", str(load().__version__))

    return guarded("opencv", look, "pip install 'opencv-python>=4.11'")


def torch() -> Finding:
    """torch and the devices it sees."""

    def look() -> Finding:
        import torch

        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("torch", "ok", f"{torch.__version__}; {', '.join(names) or 'CPU only'}")

    return guarded("torch", look, "pip install torch")


def native() -> Finding:
    """Our own compiled operators."""

    def look() -> Finding:
        from featx.ops import native_status

        status = native_status()
        kernels = " and ".join(name for name, there in (("CPU", status.cpu), ("CUDA", status.cuda)) if there)
        if status.loaded:
            return Finding("compiled operators", "ok", f"{kernels} ({status.path})")
        compiler = shutil.which("c++") or shutil.which("g++")
        advice = status.how_to_build if compiler else f"install a C++ compiler, then: {status.how_to_build}"
        return Finding("compiled operators", "warning", f"slow plain-torch versions: {status.reason}", advice)

    return guarded("compiled operators", look, "make install")


def store_reader() -> Finding:
    """Our own compiled reader of stores."""
    from featx.store.native import HOW_TO_BUILD, reader

    found = reader()
    if found.module:
        return Finding("compiled store reader", "ok", f"{found.level} ({found.module.__file__})")
    return Finding("compiled store reader", "warning", f"slow plain Python: {found.reason}", HOW_TO_BUILD)


def guarded(part: str, look: Callable[[], Finding], advice: str) -> Finding:
    """A check that fails is itself a finding."""
    try:
        return look()
    except FeatxError as error:
        return Finding(part, "missing", error.message, error.hint)
    except ImportError as error:
        return Finding(part, "missing", str(error), advice)
