"""``python -m tests.emulate``: our CUDA kernels compiled for the CPU, every case compared with plain torch.

No GPU is needed, only a C++ compiler. It runs the sources of ``csrc/cuda`` themselves; what is replaced is CUDA
(``tests/emulated``): threads run one after the other, first to last and then last to first, and those of a kernel
with barriers from barrier to barrier. So it shows wrong indices, wrong arithmetic, barriers that not all threads
reach, and threads that should have waited for each other, where order decides; not what only hardware does.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WITH_BARRIERS = ("__syncthreads", "__syncwarp")
FLAGS = ["-std=c++20", "-O1", "-g", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno", "-DFEATX_EMULATED"]
FLAGS += [
    "-include",
    "cuda_runtime.h",
    "-DFEATX_CUDA",
    "-DTORCH_TARGET_VERSION=0x020a000000000000",
    "-Wno-unknown-pragmas",
]
ORDERS = ("forwards", "backwards")


def main() -> int:
    """Build, then run every case in both orders; 0 when all agree."""
    if "--kernels" in sys.argv:
        return kernels(sys.argv[-1])
    library = build(ROOT / "build" / "emulated")
    codes = []
    for order in ORDERS:
        environment = {**os.environ, "FEATX_NATIVE": "0", "FEATX_EMULATED_ORDER": order}
        codes.append(
            subprocess.run(
                [sys.executable, "-m", "tests.emulate", "--kernels", str(library)], env=environment, cwd=ROOT
            ).returncode
        )
    return int(any(codes))


def build(folder: Path) -> Path:
    """The library, compiled anew when a source has changed."""
    from torch.utils import cpp_extension

    sources = sorted([*(ROOT / "csrc").glob("*.*"), *(ROOT / "csrc/cuda").iterdir(), *EMULATED.iterdir()])
    mark = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    library = folder / f"emulated-{mark}.so"
    if library.exists():
        return library
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "cuda").mkdir(parents=True)
    for path in sources:
        place = folder if path.parent.name == "csrc" else folder / "cuda"
        if path.parent == EMULATED and path.name == "cuda_runtime.h":
            place = folder
        name = path.with_suffix(".cpp").name if path.suffix == ".cu" else path.name
        (place / name).write_text(translated(path.read_text()))
    made = [folder / "library.cpp", *sorted((folder / "cuda").glob("*.cpp"))]
    (folder / "library.cpp").write_text(registered((ROOT / "csrc/library.cpp").read_text()))
    include = [f"-I{folder}", *(f for path in cpp_extension.include_paths() for f in ("-isystem", path))]
    link = [f for path in cpp_extension.library_paths() for f in (f"-L{path}", f"-Wl,-rpath,{path}")]
    compiler = os.environ.get("CXX", "c++")
    subprocess.run(
        [compiler, *FLAGS, *include, *map(str, made), *link, "-ltorch", "-ltorch_cpu", "-lc10", "-o", str(library)],
        check=True,
    )
    return library


EMULATED = Path(__file__).resolve().parent / "emulated"
LAUNCH = re.compile(r"(\w+(?:<\w+>)?)<<<(.*?)>>>\((.*?)\);", re.DOTALL)


def translated(text: str) -> str:
    """A source with launches and shared memory as a C++ compiler can read them."""
    text = text.replace("__CUDACC__", "FEATX_EMULATED")
    text = re.sub(
        r"extern __shared__ ([\w ]+?) (\w+)\[\];", r"\1* \2 = reinterpret_cast<\1*>(emulated::shared.data());", text
    )
    kernels = {name: any(b in body for b in WITH_BARRIERS) for name, body in bodies(text)}

    def launch(found: re.Match[str]) -> str:
        name, shape, arguments = found.groups()
        barriers = str(kernels.get(name.partition("<")[0], False)).lower()
        return f"emulated::launch({barriers}, {shape}, [&] {{ {name}({arguments}); }});"

    return LAUNCH.sub(launch, text)


def bodies(text: str) -> list[tuple[str, str]]:
    """Name and body of every kernel of a source: a body ends with a brace at the beginning of a line."""
    return re.findall(r"__global__ void (\w+)\(.*?\{(.*?)\n\}", text, re.DOTALL)


def registered(text: str) -> str:
    """The registration of the CUDA kernels as those of the CPU, and no other."""
    cpu, cuda = text.index("STABLE_TORCH_LIBRARY_IMPL(featx, CPU"), text.index("#ifdef FEATX_CUDA")
    return (text[:cpu] + text[cuda:]).replace("featx, CUDA, m", "featx, CPU, m")


def kernels(library: str) -> int:
    """Run every case against the reference in plain torch, in this process."""
    import torch

    from tests.test_cuda_parity import CASES, operator, reference, same

    names = torch._C._dispatch_get_registrations_for_dispatch_key("CPU")
    assert not any(name.startswith("featx::") for name in names), "FEATX_NATIVE=0 is needed"
    torch.ops.load_library(library)
    loaded = {name for name in torch._C._dispatch_get_registrations_for_dispatch_key("CPU") if "featx::" in name}
    wrong, without = 0, {name for name, *_ in CASES if f"featx::{name}" not in loaded}
    cases = [case for case in CASES if case[0] not in without]
    for number, (name, arguments, tolerance) in enumerate(cases):
        found, expected = operator(name)(*arguments), reference(name)(*arguments)
        try:
            pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
            for ours, theirs in pairs:
                same(ours, theirs, tolerance)
        except AssertionError as error:
            wrong += 1
            print(f"emulate: {name}, case {number}: {str(error).strip().partition(chr(10))[0]}")
    order = os.environ.get("FEATX_EMULATED_ORDER")
    print(f"emulate: {len(cases)} cases {order}, {wrong} wrong; no kernel for a GPU: {sorted(without) or 'none'}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
