"""Build of featx. The metadata is in pyproject.toml; this file adds the packages and what is compiled: the store's
reader (csrc/store, which needs a C++17 compiler and nothing else), the server's short way (csrc/lane: the same, and
Linux), and the operators (the rest of csrc, for torch).

FEATX_NATIVE=auto (the default) compiles what is possible, and says in one line what is not; 1 fails instead; 0 never
compiles. CUDA kernels are included where torch was built with CUDA and nvcc is found; for which GPUs, says
TORCH_CUDA_ARCH_LIST. ``python setup.py check_cuda`` compiles every .cu for sm_90 and keeps nothing: it needs nvcc,
but no GPU and no CUDA build of torch.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from setuptools import Command, Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

STORE, LANE, OPERATORS = "the store's reader", "the server's short way", "operators"
INSTEAD = {STORE: "plain Python", LANE: "plain Python", OPERATORS: "plain torch"}
WHAT = {"featx._store": STORE, "featx._lane": LANE}
CSRC = Path(__file__).resolve().parent / "csrc"
EXTRACTORS = ["featx_extractors", *(f"featx_extractors.{name}" for name in find_packages("extractors"))]
TORCH_TARGET = "-DTORCH_TARGET_VERSION=0x020a000000000000"  # the stable ABI of torch 2.10: one binary for it and later
CXX_FLAGS = ["-O3", "-g0", "-std=c++20", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden", "-Wall"]
CXX_FLAGS += [TORCH_TARGET]
# GCC 12 takes the undefined register that its own AVX-512 intrinsics begin with for a mistake of ours.
STORE_FLAGS = [
    "-O3",
    "-g0",
    "-std=c++17",
    "-ffp-contract=off",
    "-fvisibility=hidden",
    "-Wall",
    "-Wno-maybe-uninitialized",
]
NVCC_FLAGS = ["-O3", "-std=c++20", "-fmad=false", "-DUSE_CUDA", TORCH_TARGET]  # no fused multiply-add: as on the CPU


def wanted() -> str:
    """FEATX_NATIVE: auto, 0 or 1."""
    value = os.environ.get("FEATX_NATIVE", "auto")
    if value not in {"auto", "0", "1"}:
        sys.exit(f"featx: FEATX_NATIVE is {value!r}, expected auto, 0 or 1")
    return value


def give_up(what: str, reason: str) -> None:
    """Exit if everything must be compiled, otherwise say why ``what`` is not, and what runs instead."""
    if wanted() == "1":
        sys.exit(f"featx: {what} cannot be compiled: {reason}")
    print(f"featx: {what} not compiled ({reason}); {INSTEAD[what]} will run instead", file=sys.stderr)


def why_not() -> str:
    """Reason why nothing can be compiled here, empty when it can be tried."""
    compiler = os.environ.get("CXX", "c++")
    if wanted() == "0":
        return "FEATX_NATIVE=0"
    if shutil.which(compiler.split()[0]) is None:
        return f"no C++ compiler {compiler}"
    return ""


def why_no_operators() -> str:
    """Reason why the operators cannot be compiled where other things can."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not importable; install it first and use --no-build-isolation"
    return ""


def relative(paths: list[Path]) -> list[str]:
    """Sorted, as setuptools wants them: relative to this file."""
    return sorted(str(path.relative_to(CSRC.parent)) for path in paths)


def store() -> Extension:
    """featx._store, the compiled reader of stores."""
    return Extension(
        "featx._store",
        relative(list(CSRC.glob("store/*.cpp"))),
        depends=relative(list(CSRC.glob("store/*.h"))),
        include_dirs=[str(CSRC / "store")],
        extra_compile_args=STORE_FLAGS,
        extra_link_args=["-pthread"],
        language="c++",
        py_limited_api=True,
        optional=wanted() == "auto",
    )


def lane() -> Extension:
    """featx._lane, which answers look-ups of the server without Python (Linux)."""
    sources = [*CSRC.glob("lane/*.cpp"), *(file for file in CSRC.glob("store/*.cpp") if file.stem != "module")]
    return Extension(
        "featx._lane",
        relative(sources),
        depends=relative([*CSRC.glob("lane/*.h"), *CSRC.glob("store/*.h")]),
        include_dirs=[str(CSRC / "lane"), str(CSRC / "store")],
        extra_compile_args=STORE_FLAGS,
        extra_link_args=["-pthread"],
        language="c++",
        py_limited_api=True,
        optional=wanted() == "auto",
    )


def operators() -> Extension:
    """featx._native, the compiled operators."""
    import torch
    from torch.utils import cpp_extension

    cuda = torch.version.cuda is not None and cpp_extension.CUDA_HOME is not None
    make = cpp_extension.CUDAExtension if cuda else cpp_extension.CppExtension
    sources = [*CSRC.glob("*.cpp"), *(CSRC.glob("cuda/*.cu") if cuda else [])]
    extension: Extension = make(
        "featx._native",
        relative(sources),
        depends=relative([path for path in CSRC.rglob("*") if path.is_file()]),  # so that all of it is in an sdist
        include_dirs=[str(CSRC)],
        extra_compile_args={"cxx": [*CXX_FLAGS, *(["-DFEATX_CUDA"] if cuda else [])], "nvcc": NVCC_FLAGS},
        py_limited_api=True,
    )
    extension.optional = wanted() == "auto"
    return extension


def compiled() -> dict[str, Any]:
    """Arguments of setup() that build what can be built."""
    extensions, base = [store(), *([lane()] if sys.platform == "linux" else [])], build_ext
    if reason := why_no_operators():
        give_up(OPERATORS, reason)
    else:
        from torch.utils import cpp_extension

        extensions, base = [*extensions, operators()], cpp_extension.BuildExtension

    class Build(base):  # type: ignore[misc, valid-type]
        def build_extension(self, ext: Extension) -> None:
            try:
                super().build_extension(ext)
            except Exception as error:  # whatever the toolchain threw: the fallback is complete
                give_up(WHAT.get(ext.name, OPERATORS), str(error).splitlines()[0])

    return {
        "ext_modules": extensions,
        "cmdclass": {"build_ext": Build, "check_cuda": CheckCuda},
        "options": {"bdist_wheel": {"py_limited_api": "cp311"}},
    }


class CheckCuda(Command):
    """Compile every .cu of csrc/ with nvcc and throw the result away."""

    description = "compile every CUDA source for sm_90, needs no GPU"
    user_options: list[tuple[str, str | None, str]] = []  # noqa: RUF012 (setuptools reads this name)

    def initialize_options(self) -> None:
        """No options."""

    def finalize_options(self) -> None:
        """No options."""

    def run(self) -> None:
        """Exit with an error unless everything compiles."""
        from torch.utils import cpp_extension

        nvcc = shutil.which("nvcc") or sys.exit("check_cuda: no nvcc in PATH")
        flags = [*cpp_extension.COMMON_NVCC_FLAGS, *NVCC_FLAGS, "-arch=sm_90", "--Werror", "all-warnings"]
        include = [f"-I{CSRC}", *(flag for path in cpp_extension.include_paths() for flag in ("-isystem", path))]
        with tempfile.TemporaryDirectory() as folder:
            running = {
                source: subprocess.Popen([nvcc, "-c", source, "-o", f"{folder}/{source.stem}.o", *flags, *include])
                for source in sorted(CSRC.glob("cuda/*.cu"))
            }
            failed = [source.name for source, process in running.items() if process.wait()]
        if failed:
            sys.exit(f"check_cuda: {', '.join(failed)} did not compile")
        print(f"check_cuda: {len(running)} files compile for sm_90")


reason = why_not()
if reason:
    give_up(STORE, reason)
    give_up(OPERATORS, reason)
setup(
    packages=[*find_packages(include=["featx", "featx.*"]), *EXTRACTORS],
    package_dir={"featx_extractors": "extractors"},
    **({"cmdclass": {"check_cuda": CheckCuda}} if reason else compiled()),
)
