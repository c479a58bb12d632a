"""Pictures a second on a GPU in every precision, beside the peers' loop; how much of the GPU that is, and our kernels.

The peers' loop is ``benchmarks/peers.py``: one picture after the other, decoded, resized and looked at in turn, layers
as they are published, each result read back. It is given our compiled NMS and RoIPool, and autocast where it has half
precision. featx is the extractor as the command runs it: threads decode pictures ahead, batches are begun before
the one before is read. Both start from the same JPEG bytes and must find the same boxes before anything is timed.

    python -m benchmarks gpu            # the table, and benchmarks/results/gpu.json; BATCH=8 WORKERS=16 PICTURES=96
    DRY=1 python -m benchmarks gpu      # the same script on the CPU with a tiny network: it says whether it runs
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.device import copy_rate, launch_seconds, matrix_rates, median_rate, settle, waits, watched
from benchmarks.gpu_kernels import Kernel, convolutions, kernels
from benchmarks.operations import operations
from benchmarks.peers import Peer, pool
from benchmarks.timing import save, table
from featx import ops
from featx.decode import Policy, decode
from featx.extractor import Picture
from featx_extractors.frcnn import FRCNN, Prepared
from featx_extractors.precision import PRECISIONS
from featx_extractors.preprocess import frame_for, to_input
from featx_extractors.profiles import PROFILES, Profile
from featx_extractors.weights import load_weights
from featx_extractors.weights.architecture import CELL_ANCHORS

PROFILE, AHEAD, NOTHING = "hf-demo-fixed", 4, float("nan")
MISSING = 5  # exit code: there is no GPU, or nothing compiled for it


@dataclass(frozen=True)
class Setup:
    """What is run, where: on a GPU, or dry."""

    device: torch.device
    weights: str
    profile: Profile
    precisions: Sequence[str]
    batches: Sequence[int]
    pictures: int
    workers: int
    dry: bool

    def extractor(self, precision: str, launch: str = "eager") -> FRCNN:
        """featx in a precision, with float32 features, so that the two can be compared."""
        return FRCNN.from_options(
            {"weights": self.weights, "profile": self.profile.switches(), "precision": precision, "launch": launch,
             "device": str(self.device), "dtype": "float32"}
        )  # fmt: skip


def main() -> None:
    """Measure, print, save; exit with 5 where there is no GPU."""
    setup = dry() if os.environ.get("DRY") or "--dry" in sys.argv else real()
    files = photos(setup.pictures)
    results: dict[str, Any] = {"gpu": name_of(setup.device), "batch": setup.batches, "pictures": setup.pictures}
    results["same boxes"] = same_boxes(setup, files[0])
    side = 256 if setup.dry else 8192
    results["matrix"] = matrix_rates(setup.device, setup.precisions, side)
    results["copy"] = copy_rate(setup.device, 1 << (20 if setup.dry else 30))
    results["launch"] = launch_seconds(setup.device)
    results["rates"] = [row for precision in setup.precisions for row in measured(setup, precision, files, results)]
    results["convolutions"] = convolutions(setup.device, setup.precisions, small=setup.dry)
    results["kernels"] = kernels(setup.device, results["copy"], results["launch"], small=setup.dry)
    report(results)
    if not setup.dry:
        print(f"\nwritten to {save('gpu', {**results, 'kernels': [vars(k) for k in results['kernels']]})}")


def real() -> Setup:
    """On the GPU, with the full-size network. Exits with a sentence where there is none."""
    if not torch.cuda.is_available():
        give_up(f"torch {torch.__version__} finds no GPU here", "DRY=1 runs the script on the CPU with a tiny network")
    if not ops.native_status().cuda:
        give_up("the operators are not compiled for CUDA", ops.native_status().how_to_build)
    batches = [1, int(os.environ.get("BATCH", "8"))]
    pictures, workers = int(os.environ.get("PICTURES", "96")), int(os.environ.get("WORKERS", os.cpu_count() or 1))
    profile = replace(PROFILES[PROFILE], name="gpu")
    return Setup(torch.device("cuda"), "seeded", profile, list(PRECISIONS), batches, pictures, workers, dry=False)


def dry() -> Setup:
    """On the CPU, with the tiny network and few small pictures."""
    profile = replace(PROFILES[PROFILE], name="gpu", short_side=160, long_side=240)
    return Setup(torch.device("cpu"), "seeded-tiny", profile, ["float32", "bfloat16"], [1, 2], 4, 2, dry=True)


def give_up(reason: str, hint: str) -> None:
    """Say why nothing can be measured, and exit."""
    print(f"benchmarks gpu: {reason}\n  -> {hint}", file=sys.stderr)
    sys.exit(MISSING)


def name_of(device: torch.device) -> str:
    """What is measured, with its libraries."""
    if device.type != "cuda":
        return "none: the CPU, dry"
    facts = torch.cuda.get_device_properties(device)
    memory = f"{facts.total_memory / 2**30:.0f} GiB, {facts.multi_processor_count} SMs"
    return f"{facts.name} ({memory}), CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"


def photos(number: int) -> list[bytes]:
    """JPEGs of a 640x480 photograph, each a little brighter than the one before, so that none repeats."""
    from benchmarks.stages import photo

    pixels = photo()[:, :, ::-1].astype(np.int16)
    varied = (np.clip(pixels + i % 40, 0, 255).astype(np.uint8) for i in range(number))
    return [cv2.imencode(".jpg", each, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes() for each in varied]


# --- featx ----------------------------------------------------------------------------------------------------------


def prepared(frcnn: FRCNN, file: bytes) -> Prepared:
    """A picture as a thread makes it ready."""
    return frcnn.prepare(Picture("p", decode(file, Policy())))


def ahead(frcnn: FRCNN, files: Sequence[bytes], workers: int, places: int) -> Iterator[Prepared]:
    """Pictures in order, so many of them decoded ahead."""
    window: deque[Future[Prepared]] = deque()
    with ThreadPoolExecutor(workers) as threads:
        for file in files:
            window.append(threads.submit(prepared, frcnn, file))
            if len(window) > places:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()


def run_batches(frcnn: FRCNN, pictures: Iterator[Prepared] | Sequence[Prepared], batch: int) -> int:
    """Records of all pictures, each batch begun before the one before is read; how many there were."""
    begun: deque[Any] = deque()
    group: list[Prepared] = []
    done = 0
    for picture in pictures:
        group.append(picture)
        if len(group) == batch:
            begun.append(frcnn.begin(group))
            group = []
        if len(begun) > 1:
            done += len(begun.popleft()())
    begun.extend([frcnn.begin(group)] if group else [])
    return done + sum(len(records()) for records in begun)


def measured(setup: Setup, precision: str, files: Sequence[bytes], known: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of one precision: the peers' loop, then featx by batch, and on a GPU the other ways to launch."""
    peer = median_rate(lambda: peer_loop(setup, precision, files[: max(2, len(files) // 8)]), setup.device)
    for launch in ("eager",) if setup.dry else ("eager", "graphs", "compile"):
        try:
            frcnn = setup.extractor(precision, launch)
            for batch in setup.batches if launch == "eager" else setup.batches[:1]:
                yield row(setup, frcnn, precision, launch, batch, files, peer, known)
            del frcnn
        except Exception as error:  # a launch that cannot be had here must not cost the rest of the table
            if launch == "eager":
                raise
            yield {"precision": precision, "launch": launch, "failed": str(error).partition("\n")[0]}


def row(
    setup: Setup, frcnn: FRCNN, precision: str, launch: str, batch: int, files: Sequence[bytes], peer: Any, known: Any
) -> dict[str, Any]:
    """Rates of the network alone, on prepared pictures, and of all from JPEG to record."""
    some = [prepared(frcnn, file) for file in files[:batch]]
    many = some * max(1, len(files) // batch)
    network = median_rate(lambda: run_batches(frcnn, many, batch), setup.device)
    places = AHEAD * batch + setup.workers
    whole = median_rate(lambda: run_batches(frcnn, ahead(frcnn, files, setup.workers, places), batch), setup.device)
    counted = operations(frcnn.detector.network, some[0].frame.size, frcnn.profile.post_nms, frcnn.profile.resolution)
    seen = watched(lambda: run_batches(frcnn, many[: 8 * batch], batch), setup.device)
    share = sum(counted.values()) * network[0] / known["matrix"][precision]
    return {
        "precision": precision, "launch": launch, "batch": batch, "peer": peer, "network": network, "whole": whole,
        "share": share, "idle": seen["idle"], "kernels": seen["kernels"] / min(len(many), 8 * batch),
        "waits": waits(lambda: frcnn.begin(some), setup.device), "operations": counted,
    }  # fmt: skip


# --- the peers ------------------------------------------------------------------------------------------------------

_PEERS: dict[str, tuple[Peer, torch.Tensor]] = {}


def peer_on(setup: Setup) -> tuple[Peer, torch.Tensor]:
    """The demo's network on the device, with its anchors of one cell; built once."""
    if setup.weights not in _PEERS:
        weights = load_weights(setup.weights)
        tensors = {name: tensor.to(setup.device) for name, tensor in weights.tensors.items()}
        peer = Peer(weights.tensors, weights.header.delta_weights).eval().to(setup.device)
        peer.tensors = tensors
        _PEERS[setup.weights] = peer, tensors[CELL_ANCHORS]
    return _PEERS[setup.weights]


def in_precision(name: str, device: torch.device) -> AbstractContextManager[Any]:
    """How the peers would be told: TF32 allowed, or autocast."""
    precision = PRECISIONS[name]
    if precision.dtype != torch.float32:
        return torch.autocast(device.type, precision.dtype)
    return precision.flags(device) if device.type == "cuda" else nullcontext()


@torch.inference_mode()
def peer_loop(setup: Setup, precision: str, files: Sequence[bytes]) -> int:
    """One picture after the other; how many there were."""
    with in_precision(precision, setup.device):
        for file in files:
            peer_picture(setup, file)
    return len(files)


def peer_picture(setup: Setup, file: bytes) -> tuple[np.ndarray[Any, Any], ...]:
    """The demo's way from a JPEG to boxes, ids and features on the host."""
    from featx_extractors.proposals import anchor_grid

    peer, cell = peer_on(setup)
    pixels = decode(file, Policy())
    frame = frame_for(*pixels.shape[:2], setup.profile)
    x = to_input(pixels, frame, setup.profile)[None].to(setup.device)
    res4 = peer.res4(peer.res3(peer.res2(peer.pooled_stem(x))))
    logits, deltas = peer.head(res4)
    anchors = anchor_grid(cell, *res4.shape[2:])
    proposals = peer.propose(logits.float(), deltas.float(), anchors, frame.size)
    features = peer.res5(pool(res4, proposals)).float().mean((2, 3))
    scores, moves, attributes = peer.predict(features)
    keep, boxes, ids = peer.postprocess(
        scores.float(), moves.float(), attributes.float(), proposals, frame.size, setup.profile.thresholds
    )
    settle(setup.device)
    return tuple(each.float().cpu().numpy() for each in (frame.to_original(boxes), ids, features[keep]))


@torch.inference_mode()
def same_boxes(setup: Setup, file: bytes) -> str:
    """Both must find the same boxes in float32; a GPU may turn a few near ties."""
    frcnn = setup.extractor("float32")
    record = frcnn([prepared(frcnn, file)])[0]
    with in_precision("float32", setup.device):
        boxes, _, _ = peer_picture(setup, file)
    apart = np.abs(record.boxes[: record.count, None] - boxes[None]).max(2).min(1)
    same = int((apart < 0.1).sum())
    if same < 0.9 * record.count:
        give_up(f"featx and the transcription share {same} of {record.count} boxes", "one of them is wrong")
    return f"{same} of {record.count}"


# --- the table ------------------------------------------------------------------------------------------------------


def report(results: dict[str, Any]) -> None:
    """What was measured, to be read."""
    print(f"{results['gpu']}; boxes shared with the peers' loop: {results['same boxes']}")
    rates = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in results["matrix"].items())
    print(f"matrix product, TFLOP/s: {rates}; copies {results['copy'] / 1e9:.4g} GB/s; ", end="")
    print(f"a kernel every {results['launch'] * 1e6:.2f} us\n")
    heads = ("precision", "launch", "batch", "peers/s", "network/s", "from JPEG/s", "/ peers", "of matrix", "idle",
             "kernels", "waits")  # fmt: skip
    print(table([heads, *(line(each) for each in results["rates"])]))
    print("\nnetwork: prepared pictures to records; idle: of the GPU, under the profiler, which only adds to it;")
    print("kernels: launched for a picture; waits: of the host while it begins a batch\n")
    heads = ("convolution, TFLOP/s", "precision", "channels last", "NCHW", "of matrix")
    print(table([heads, *(conv_line(each, results["matrix"]) for each in results["convolutions"])]) + "\n")
    print(table([Kernel.HEADS, *(each.line() for each in results["kernels"])]))


def line(found: dict[str, Any]) -> tuple[str, ...]:
    """One row as text."""
    if "failed" in found:
        return (found["precision"], found["launch"], "-", f"cannot be had: {found['failed'][:60]}", *["-"] * 7)
    peer, network, whole = found["peer"], found["network"], found["whole"]
    return (
        found["precision"], found["launch"], str(found["batch"]), f"{peer[0]:.3g}",
        f"{network[0]:.4g} ({network[1]:.4g}..{network[2]:.4g})", number(whole[0], ".4g"),
        number(whole[0] / peer[0], ".2f"),
        f"{found['share']:.0%}", number(found["idle"], ".1%"),
        f"{found['kernels']:.0f}", "-" if found["waits"] is None else str(found["waits"]),
    )  # fmt: skip


def conv_line(found: dict[str, Any], matrix: dict[str, float]) -> tuple[str, ...]:
    """One convolution as text; the share is of the better layout."""
    last, first = found["channels last"], found["NCHW"]
    share = f"{max(last, first) / matrix[found['precision']]:.0%}"
    return (found["name"], found["precision"], f"{last / 1e12:.3g}", f"{first / 1e12:.3g}", share)


def number(value: float, form: str) -> str:
    """A figure, or a dash for one that there is not."""
    return "-" if value != value else format(value, form)


if __name__ == "__main__":
    main()
