"""Build of featx. The metadata is in pyproject.toml; this file adds the packages and the compiled operators.

FEATX_NATIVE=auto (the default) compiles csrc/ where that is possible, and says in one line when it is not; 1 fails
instead; 0 never compiles. CUDA kernels are included where torch was built with CUDA and nvcc is found; for which GPUs,
says TORCH_CUDA_ARCH_LIST. ``python setup.py check_cuda`` compiles every .cu for sm_90 and keeps nothing: it needs nvcc,
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

CSRC = Path(__file__).resolve().parent / "csrc"
EXTRACTORS = ["featx_extractors", *(f"featx_extractors.{name}" for name in find_packages("extractors"))]
TORCH_TARGET = "-DTORCH_TARGET_VERSION=0x020a000000000000"  # the stable ABI of torch 2.10: one binary for it and later
CXX_FLAGS = ["-O3", "-g0", "-std=c++20", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden", "-Wall"]
CXX_FLAGS += [TORCH_TARGET]
NVCC_FLAGS = ["-O3", "-std=c++20", "-fmad=false", "-DUSE_CUDA", TORCH_TARGET]  # no fused multiply-add: as on the CPU


def wanted() -> str:
    """FEATX_NATIVE: auto, 0 or 1."""
    value = os.environ.get("FEATX_NATIVE", "auto")
    if value not in {"auto", "0", "1"}:
        sys.exit(f"featx: FEATX_NATIVE is {value!r}, expected auto, 0 or 1")
    return value


def give_up(reason: str) -> None:
    """Exit if the operators must be compiled, otherwise say why they are not."""
    if wanted() == "1":
        sys.exit(f"featx: the operators cannot be compiled: {reason}")
    print(f"featx: operators not compiled ({reason}); plain torch will run instead", file=sys.stderr)


def why_not() -> str:
    """Reason why csrc/ cannot be compiled here, empty when it can be tried."""
    compiler = os.environ.get("CXX", "c++")
    if wanted() == "0":
        return "FEATX_NATIVE=0"
    if importlib.util.find_spec("torch") is None:
        return "torch is not importable; install it first and use --no-build-isolation"
    if shutil.which(compiler.split()[0]) is None:
        return f"no C++ compiler {compiler}"
    return ""


def relative(paths: list[Path]) -> list[str]:
    """Sorted, as setuptools wants them: relative to this file."""
    return sorted(str(path.relative_to(CSRC.parent)) for path in paths)


def native() -> dict[str, Any]:
    """Arguments of setup() that build featx._native."""
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

    class Build(cpp_extension.BuildExtension):  # type: ignore[misc]
        def build_extensions(self) -> None:
            try:
                super().build_extensions()
            except Exception as error:  # whatever the toolchain threw: the fallback is complete
                give_up(str(error).splitlines()[0])

    return {
        "ext_modules": [extension],
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
    give_up(reason)
setup(
    packages=[*find_packages(include=["featx", "featx.*"]), *EXTRACTORS],
    package_dir={"featx_extractors": "extractors"},
    **({"cmdclass": {"check_cuda": CheckCuda}} if reason else native()),
)
