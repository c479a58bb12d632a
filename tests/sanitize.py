"""``python -m tests.sanitize``: our CUDA kernels under NVIDIA's compute-sanitizer, one tool after the other.

memcheck finds accesses outside of what was allocated, racecheck hazards in shared memory, synccheck barriers that not
all threads reach, initcheck reads of memory that nobody wrote. Every case of ``tests/test_cuda_parity.py`` is run, each
tensor an allocation of its own. Ends with 1 when a tool finds something, with 5 when there is no GPU or no tool.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from featx import ops
from tests.test_cuda_parity import CASES, on, operator, same

TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
FOUND, MISSING = 9, 5
HINT = "pip install nvidia-cuda-sanitizer-api, or install the CUDA toolkit and put its bin folder into PATH"


def main() -> int:
    """Run every tool; 0 when all of them are content."""
    if "--kernels" in sys.argv:
        return kernels()
    problem = missing()
    program = find()
    if problem or program is None:
        print(f"sanitize: {problem or f'there is no compute-sanitizer: {HINT}'}", file=sys.stderr)
        return MISSING
    results = {tool: run(program, tool) for tool in TOOLS}
    for tool, code in results.items():
        print(f"{tool:<10} {'clean' if code == 0 else f'found something (exit code {code})'}")
    return int(any(results.values()))


def missing() -> str:
    """Why nothing can be run, empty when it can."""
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no GPU"
    if not ops.native_status().cuda:
        return f"the operators are not compiled for CUDA: {ops.native_status().how_to_build}"
    return ""


def find() -> str | None:
    """compute-sanitizer, of PATH, of the toolkit, or of NVIDIA's wheel."""
    if path := shutil.which("compute-sanitizer"):
        return path
    homes = [os.environ.get("CUDA_HOME", "/usr/local/cuda")]
    places = [Path(home, "bin", "compute-sanitizer") for home in homes]
    places += [folder for entry in sys.path for folder in Path(entry).glob("nvidia/*/bin/compute-sanitizer")]
    return next((str(place) for place in places if place.is_file()), None)


def command(program: str, tool: str) -> list[str]:
    """The command line of a tool: our kernels only, and an exit code of its own where it finds something."""
    return [
        program, "--tool", tool, "--error-exitcode", str(FOUND), "--report-api-errors", "no",
        "--kernel-name", "kernel_substring=featx", "--target-processes", "application-only",
        sys.executable, "-m", "tests.sanitize", "--kernels",
    ]  # fmt: skip


def run(program: str, tool: str, call: Callable[..., subprocess.CompletedProcess[bytes]] = subprocess.run) -> int:
    """Exit code of a tool: 0 when it found nothing and every result was right."""
    print(f"sanitize: {tool}", flush=True)
    return call(command(program, tool), env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}).returncode


def kernels() -> int:
    """Run every case on the GPU and compare it with the CPU."""
    device = torch.device("cuda")
    for name, arguments, tolerance in CASES:
        found, expected = operator(name)(*on(device, arguments)), operator(name)(*arguments)
        pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
        for ours, theirs in pairs:
            same(ours.cpu(), theirs, tolerance)
    torch.cuda.synchronize()
    print(f"sanitize: {len(CASES)} cases")
    return 0


if __name__ == "__main__":
    sys.exit(main())
