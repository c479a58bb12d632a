"""Stages of the full-size network on one 640x480 photo: the peers' way, ours, and what the CPU can do.

The limit of a stage is the sum of the plain network's bare convolutions (no norm, ReLU or sum), each timed in the same
run in the faster of NCHW and channels-last; "of limit" is that sum over our time for the stage. The best rate among
them is the peak; "of peak" is the rate of the operations that featx really does, over it. Large matrix products are
timed as well. Operation counts are 2 x multiply-adds. "regions" is RoIPool and res5 together, for the proposals of the
untrained weights, which are small, and for as many of all sizes.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.peers import Peer, pool
from benchmarks.savings import done, regions_of_all_sizes, sharing
from benchmarks.timing import Timing, interleaved, measure, save, table
from featx_extractors.conv import Conv
from featx_extractors.detector import Detector
from featx_extractors.network import Network
from featx_extractors.preprocess import Frame, frame_for, to_input
from featx_extractors.profiles import PROFILES, Profile
from featx_extractors.proposals import anchor_grid
from featx_extractors.selection import Regression, select
from featx_extractors.weights import load_weights
from featx_extractors.weights.architecture import CELL_ANCHORS

RUNS = 3
ORDER = (
    "resize",
    "stem",
    "res2",
    "res3",
    "res4",
    "rpn head",
    "proposals",
    "res5",
    "all sizes",
    "predictor",
    "selection",
)
TITLES = {"res5": "regions", "all sizes": "regions, all sizes"}


@torch.inference_mode()
def main() -> None:
    """Time, print, save."""
    profile = PROFILES["hf-demo-fixed"]
    weights = load_weights("seeded")
    detector, peer = Detector(weights, profile), Peer(weights.tensors, weights.header.delta_weights).eval()
    pixels = photo()
    frame = frame_for(*pixels.shape[:2], profile)
    x = to_input(pixels, frame, profile)[None]
    same_boxes(detector, peer, x, frame)
    half, fast = bfloat16(weights, profile, detector, x, frame)
    limits, peak = limit_of_stages(detector.network, x)
    note_work(detector, x, frame, limits)
    times = stage_times(detector, peer, pixels, frame)
    whole = whole_pictures(detector, fast, pixels, frame)
    report(times, limits, peak, whole, half)


def note_work(detector: Detector, x: torch.Tensor, frame: Frame, limits: dict[str, dict[str, float]]) -> None:
    """Put beside each limit how many operations featx does, and print what the regions share."""
    res4 = detector.trunk(x)
    own, other = detector.propose(res4, [frame])[0].boxes, regions_of_all_sizes(frame.size)
    for name, boxes in (("proposed", own), ("of all sizes", other)):
        print(f"{name}: {sharing(detector, boxes, res4)}")
    limits["all sizes"] = dict(limits["res5"])
    for name, operations in done(detector, x, own).items():
        limits[name]["done"] = operations
    limits["all sizes"]["done"] = done(detector, x, other)["res5"]


def photo() -> Any:
    """A 640x480 photograph (scikit-image's coffee cup, 600x400, resized)."""
    import cv2
    from skimage import data

    return cv2.resize(np.ascontiguousarray(data.coffee()), (640, 480), interpolation=cv2.INTER_AREA)


def run_featx(detector: Detector, pixels: Any, frame: Frame) -> Any:
    return detector.detect(to_input(pixels, frame, detector.profile)[None], [frame])[0]


def run_peer(peer: Peer, cell_anchors: torch.Tensor, pixels: Any, frame: Frame, profile: Profile) -> Any:
    """The demo's whole way, from pixels to 36 boxes."""
    x = to_input(pixels, frame, profile)[None]
    res4 = peer.res4(peer.res3(peer.res2(peer.pooled_stem(x))))
    logits, deltas = peer.head(res4)
    anchors = anchor_grid(cell_anchors, *res4.shape[2:])
    proposals = peer.propose(logits, deltas, anchors, frame.size)
    features = peer.res5(pool(res4, proposals)).mean((2, 3))
    scores, box_deltas, attributes = peer.predict(features)
    keep, boxes, ids = peer.postprocess(scores, box_deltas, attributes, proposals, frame.size, profile.thresholds)
    return keep, boxes, ids, features[keep]


def whole_pictures(detector: Detector, fast: Detector, pixels: Any, frame: Frame) -> dict[str, Timing]:
    """From pixels to 36 boxes, turn by turn; the peer in a process of its own, with the allocator as it finds it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=peer_process, args=(there,), daemon=True)
    process.start()

    def ask() -> None:
        here.send("run")
        here.recv()

    pieces = {"peer": ask, "featx": lambda: run_featx(detector, pixels, frame),
              "bfloat16": lambda: run_featx(fast, pixels, frame)}  # fmt: skip
    times = interleaved(pieces, RUNS + 2)
    process.terminate()
    # The peer is the "other process" of its own rows, so what others used cannot be told apart.
    return {name: replace(timing, others=None if name == "peer" else timing.others) for name, timing in times.items()}


@torch.inference_mode()
def peer_process(pipe: Any) -> None:
    """Serve one picture per request, until the parent ends it. Its weights and boxes are those of ``same_boxes``."""
    profile = PROFILES["hf-demo-fixed"]
    weights = load_weights("seeded")
    peer, pixels = Peer(weights.tensors, weights.header.delta_weights).eval(), photo()
    frame = frame_for(*pixels.shape[:2], profile)
    cell = weights.tensors[CELL_ANCHORS]
    while pipe.recv():
        run_peer(peer, cell, pixels, frame, profile)
        pipe.send("done")


def same_boxes(detector: Detector, peer: Peer, x: torch.Tensor, frame: Frame) -> None:
    """Both must find the same 36 boxes and features before a time means anything."""
    ours = detector.detect(x, [frame])[0]
    cell = detector.network.proposal_head.cell_anchors
    _, boxes, ids, features = run_peer(peer, cell, photo(), frame, detector.profile)
    assert torch.equal(ids, ours.object_ids), "the transcription and featx choose different boxes"
    assert (frame.to_original(boxes) - ours.regressed).abs().max() < 0.05
    assert (features - ours.features).abs().max() < 1e-3


def stage_times(detector: Detector, peer: Peer, pixels: Any, frame: Frame) -> dict[str, dict[str, Timing]]:
    """Each stage, peer and featx in turn, on the same inputs."""
    network, profile = detector.network, detector.profile
    x = to_input(pixels, frame, profile)[None]
    ours, theirs = [network.trunk.pooled_stem(x)], [peer.pooled_stem(x)]
    for name in ("res2", "res3", "res4"):
        ours.append(getattr(network.trunk, name)(ours[-1]))
        theirs.append(getattr(peer, name)(theirs[-1]))
    res4, their4 = ours[-1], theirs[-1]
    anchors = anchor_grid(network.proposal_head.cell_anchors, *res4.shape[2:])
    logits, deltas = peer.head(their4)
    proposals = detector.propose(res4, [frame])[0].boxes
    features = detector.region_features(res4, proposals)
    out = network.predictor(features)
    scores, box_deltas, attributes = peer.predict(features)
    regression = Regression(proposals, out.deltas, detector.delta_weights, frame, profile)
    large = regions_of_all_sizes(frame.size)
    head_out = network.proposal_head(res4)
    from featx_extractors.proposals import propose

    pieces: dict[str, dict[str, Any]] = {
        "resize": {"peer": lambda: to_input(pixels, frame, profile), "featx": lambda: to_input(pixels, frame, profile)},
        "stem": {"peer": lambda: peer.pooled_stem(x), "featx": lambda: network.trunk.pooled_stem(x)},
        "res2": {"peer": lambda: peer.res2(theirs[0]), "featx": lambda: network.trunk.res2(ours[0])},
        "res3": {"peer": lambda: peer.res3(theirs[1]), "featx": lambda: network.trunk.res3(ours[1])},
        "res4": {"peer": lambda: peer.res4(theirs[2]), "featx": lambda: network.trunk.res4(ours[2])},
        "rpn head": {"peer": lambda: peer.head(their4), "featx": lambda: network.proposal_head(res4)},
        "proposals": {
            "peer": lambda: peer.propose(logits, deltas, anchors, frame.size),
            "featx": lambda: propose(head_out[0][0], head_out[1][0], anchors, frame, profile),
        },
        "res5": {
            "peer": lambda: peer.res5(pool(their4, proposals)).mean((2, 3)),
            "featx": lambda: detector.region_features(res4, proposals),
        },
        "all sizes": {
            "peer": lambda: peer.res5(pool(their4, large)).mean((2, 3)),
            "featx": lambda: detector.region_features(res4, large),
        },
        "predictor": {"peer": lambda: peer.predict(features), "featx": lambda: network.predictor(features)},
        "selection": {
            "peer": lambda: peer.postprocess(scores, box_deltas, attributes, proposals, frame.size, profile.thresholds),
            "featx": lambda: select(regression, out, proposals),
        },
    }
    return {name: interleaved(piece, RUNS) for name, piece in pieces.items()}


def limit_of_stages(network: Network, x: torch.Tensor) -> tuple[dict[str, dict[str, float]], float]:
    """For each stage of convolutions: operations, and seconds of its bare convolutions in the better layout; the peak.

    The peak is the most operations a second that any of them reaches.
    """
    calls: dict[str, list[tuple[Conv, tuple[int, ...]]]] = {}
    hooks = []
    parts = {"stem": network.trunk.stem, "res2": network.trunk.res2, "res3": network.trunk.res3,
             "res4": network.trunk.res4, "rpn head": network.proposal_head, "res5": network.res5.blocks}  # fmt: skip
    for name, part in parts.items():
        for module in part.modules():
            if isinstance(module, Conv):
                note = lambda m, args, out, name=name: calls.setdefault(name, []).append((m, tuple(args[0].shape)))  # noqa: E731
                hooks.append(module.register_forward_hook(note))
    res4 = network.trunk(x)
    network.proposal_head(res4)
    network.res5(torch.zeros(300, res4.shape[1], 14, 14).to(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()
    known: dict[Any, tuple[float, float]] = {}
    limits = {name: _limit(made, known) for name, made in calls.items()}
    return limits, max(operations / seconds for operations, seconds in known.values())


def _limit(made: list[tuple[Conv, tuple[int, ...]]], known: dict[Any, tuple[float, float]]) -> dict[str, float]:
    total = {"operations": 0.0, "seconds": 0.0}
    for conv, shape in made:
        key = (shape, tuple(conv.weight.shape), conv.stride, conv.dilation)
        if key not in known:
            known[key] = _bare(conv, shape)
        operations, seconds = known[key]
        total["operations"] += operations
        total["seconds"] += seconds
    return total


def _bare(conv: Conv, shape: tuple[int, ...]) -> tuple[float, float]:
    geometry = (None, conv.stride, conv.padding, conv.dilation)
    best = []
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(shape).to(memory_format=layout)
        weight = conv.weight.detach().to(memory_format=layout)
        best.append(measure(lambda x=x, w=weight: functional.conv2d(x, w, *geometry), 3).best)  # type: ignore[misc]
        out = functional.conv2d(x, weight, *geometry)
    taps = conv.weight[0].numel()
    return 2.0 * out.numel() * taps, min(best)


def bfloat16(
    weights: Any, profile: Any, exact: Detector, x: torch.Tensor, frame: Frame
) -> tuple[dict[str, Any], Detector]:
    """Error of bfloat16 at the boxes that float32 chose, and the detector that has it."""
    fast = Detector(weights, profile, precision="bfloat16")
    found = exact.detect(x, [frame])[0]
    other = fast.describe(x, [frame], [found.proposals])[0]
    cosine = functional.cosine_similarity(other.features, found.features)
    error = (other.features - found.features).abs()
    errors = {
        "features max error": float(error.max()),
        "features mean error": float(error.mean()),
        "features mean": float(found.features.mean()),
        "least cosine": float(cosine.min()),
        "same object id": float((other.object_ids == found.object_ids).float().mean()),
    }
    return errors, fast


def trunk_row(times: Any, limits: Any, peak: float) -> tuple[str, ...]:
    """stem to res4 together."""
    parts = ("stem", "res2", "res3", "res4")
    theirs, ours = (sum(times[p][who].median for p in parts) for who in ("peer", "featx"))
    limit = {what: sum(limits[p][what] for p in parts) for what in ("operations", "seconds", "done")}
    return ("trunk", f"{theirs:.4f}", f"{ours:.4f}", f"{theirs / ours:.2f}", *shares(limit, ours, peak), "", "")


def shares(limit: dict[str, float] | None, seconds: float, peak: float) -> tuple[str, ...]:
    """Operations of the plain network and of ours, our rate, its share of the peak, and our share of the limit."""
    if limit is None:
        return ("-",) * 5
    rate = limit["done"] / seconds
    plain, ours = f"{limit['operations'] / 1e9:.1f}", f"{limit['done'] / 1e9:.1f}"
    return plain, ours, f"{rate / 1e9:.0f}", f"{rate / peak:.0%}", f"{limit['seconds'] / seconds:.0%}"


def matrix_product() -> dict[str, float]:
    """GFLOP/s of a 4096 x 4096 product, in both precisions."""
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(4096, 4096, dtype=dtype)
        rates[str(dtype).removeprefix("torch.")] = 2 * 4096**3 / measure(lambda a=a: a @ a, 3).best / 1e9  # type: ignore[misc]
    return rates


def report(times: Any, limits: Any, peak: float, whole: Any, half: Any) -> None:
    """The table and the file."""
    columns = "stage|peer s|featx s|peer/featx|GFLOP plain|done|GFLOP/s|of peak|of limit|featx spread|others"
    rows = [tuple(columns.split("|"))]
    rows += [stage_row(TITLES.get(name, name), times[name], limits.get(name), peak) for name in ORDER]
    rows.append(trunk_row(times, limits, peak))
    rows.append(stage_row("whole picture", whole, None, peak))
    rows.append(stage_row("in bfloat16", {"peer": whole["peer"], "featx": whole["bfloat16"]}, None, peak))
    print(table(rows))
    print(f"\npeak of the bare convolutions: {peak / 1e9:.0f} GFLOP/s")
    products = matrix_product()
    print("4096 x 4096 matrix product, GFLOP/s: " + ", ".join(f"{k} {v:.0f}" for k, v in products.items()))
    print("bfloat16: " + ", ".join(f"{name} {value:.4g}" for name, value in half.items()))
    results = {"stages": times, "limits": limits, "peak": peak, "whole": whole, "bfloat16": half,
               "matrix_product": products}  # fmt: skip
    print(f"\nwritten to {save('stages', results)}")


def stage_row(name: str, times: dict[str, Timing], limit: dict[str, float] | None, peak: float) -> tuple[str, ...]:
    """One line of the table."""
    theirs, ours = times["peer"], times["featx"]
    share = "-" if ours.others is None else f"{ours.others:.0%}"
    figures = (f"{theirs.median:.4f}", f"{ours.median:.4f}", f"{theirs.median / ours.median:.2f}")
    spread = f"{ours.best:.4f}..{ours.worst:.4f}"
    return (name, *figures, *shares(limit, ours.median, peak), spread, share)
