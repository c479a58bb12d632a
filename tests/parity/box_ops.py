"""``ops/``: single operators against detectron2, Caffe, MILVLG and airsplay's kernels."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import torch

from featx import ops
from featx.ops.roi_reference import round_half_away
from featx_extractors.anchors import caffe_anchors, detectron2_anchors, grid
from featx_extractors.preprocess import frame_for, to_input
from featx_extractors.profiles import PROFILES, Profile
from tests.parity.folder import Arrays, Folder
from tests.parity.table import Table

PIXELS = 0.02  # tolerance of a box, in pixels
MARGIN = 1e-4


def compare(folder: Folder, table: Table) -> None:
    """Every file of ``ops/``."""
    roi_pool(folder.arrays("roi_pool.npz"), table)
    roi_align(folder.arrays("roi_align.npz"), table)
    nms(folder.arrays("nms.npz"), table)
    boxes(folder.arrays("boxes.npz"), table)
    anchors(folder.arrays("anchors.npz"), table)
    resize(folder.arrays("resize.npz"), table)


def matching(arrays: Arrays, pattern: str) -> list[re.Match[str]]:
    """Names of arrays that match ``pattern`` whole."""
    return [m for m in (re.fullmatch(pattern, name) for name in arrays) if m]


def roi_pool(a: Arrays, table: Table) -> None:
    x, rois = a.tensor("x"), a.tensor("rois")
    for match in matching(a, r"out_p(\d+)"):
        size = int(match[1])
        features = x.clone().requires_grad_()
        out = ops.roi_pool(features, rois, size, 1 / 16)
        out.backward(a.tensor(f"gout_p{size}"))
        want = a[match[0]]
        table.equal("caffe", f"roi_pool {size}x{size}", out, want)
        flat = x.flatten(2)[rois[:, 0].long()].flatten(2)
        where = a.tensor(f"argmax_p{size}").long().flatten(2)
        taken = torch.where(where < 0, torch.zeros(()), flat.gather(2, where.clamp(min=0))).view(want.shape)
        table.equal("caffe", f"roi_pool {size}x{size} argmax", out, taken)
        table.close("caffe", f"roi_pool {size}x{size} gradient", features.grad, a[f"grad_p{size}"], 1e-5)
    roi_pool_bins(a, table)


def roi_pool_bins(a: Arrays, table: Table) -> None:
    """Windows and bin edges, read off the operator itself by pooling maps whose values are coordinates."""
    rois, corners, size = a.tensor("rois"), a["window_corners"], a["window_size"]
    table.equal("caffe", "roi_pool window corners", round_half_away(rois[:, 1:] / 16), corners)
    table.equal("caffe", "roi_pool window size", np.maximum(corners[:, 2:] - corners[:, :2] + 1, 1), size)
    inside = torch.from_numpy((corners >= 0).all(1))
    reach = int(np.abs(corners).max()) + 2
    ramp = torch.arange(float(reach))
    whole = rois[inside]
    whole[:, 0] = 0
    for axis, plane in enumerate((ramp.expand(reach, -1), ramp.expand(reach, -1).T)):
        last = ops.roi_pool(plane[None, None].contiguous(), whole, 1, 1 / 16)[:, 0, 0, 0]
        first = -ops.roi_pool(-plane[None, None].contiguous(), whole, 1, 1 / 16)[:, 0, 0, 0]
        starts, sizes = corners[inside.numpy()][:, axis], size[inside.numpy()][:, axis]
        table.equal("caffe", f"roi_pool window {'xy'[axis]} as pooled", torch.stack([first, last], 1),
                    np.stack([starts, starts + sizes - 1], 1))  # fmt: skip
    for match in matching(a, r"bin_end_p(\d+)"):
        parts = int(match[1])
        starts, ends = bin_edges(len(a[match[0]]), parts)
        table.equal("caffe", f"roi_pool bin starts {parts}", starts, a[f"bin_start_p{parts}"])
        table.equal("caffe", f"roi_pool bin ends {parts}", ends, a[match[0]])
        length, i = np.arange(1, len(ends) + 1)[:, None], np.arange(parts)
        exact = (i * length // parts != starts) | (-(-(i + 1) * length // parts) != ends)
        table.equal("caffe", f"roi_pool bins that float32 moves {parts}", exact, a[f"bin_differs_p{parts}"])


def bin_edges(lengths: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last cell of each bin for windows of 1..lengths cells: maxima of rising and falling maps."""
    width = lengths + 1
    ramp = torch.arange(1.0, width + 1)
    planes = torch.stack([ramp, width + 1 - ramp])[None, :, None].expand(1, 2, 1, width).contiguous()
    rois = torch.zeros(lengths, 5)
    rois[:, 3] = torch.arange(lengths) * 16.0
    out = ops.roi_pool(planes, rois, (1, parts), 1 / 16)
    ends = out[:, 0, 0].long().numpy()
    starts = (width - out[:, 1, 0]).long().numpy()
    return starts, ends


def roi_align(a: Arrays, table: Table) -> None:
    for match in matching(a, r"out(64)?_aligned([01])_sr(\d+)_p(\d+)"):
        double, aligned, ratio, size = bool(match[1]), match[2] == "1", int(match[3]), int(match[4])
        kind = torch.float64 if double else torch.float32
        x = a.tensor("x").to(kind).requires_grad_()
        out = ops.roi_align(x, a.tensor("rois").to(kind), size, 1 / 16, sampling_ratio=ratio, aligned=aligned)
        label = f"roi_align {'f64 ' if double else ''}aligned={int(aligned)} ratio={ratio} {size}x{size}"
        table.close("airsplay", label, out, a[match[0]], 1e-10 if double else 2e-5)
        grad = match[0].replace("out", "grad", 1)
        if grad in a:
            out.backward(a.tensor(f"gout_{size}").to(kind))
            table.close("airsplay", f"{label} gradient", x.grad, a[grad], 1e-10 if double else 1e-4)
    for match in matching(a, r"out_b_aligned([01])_sr(\d+)_(\d+)x(\d+)"):
        out = ops.roi_align(
            a.tensor("x_b"), a.tensor("rois_b"), (int(match[3]), int(match[4])), 0.25,
            sampling_ratio=int(match[2]), aligned=match[1] == "1",
        )  # fmt: skip
        table.close("airsplay", f"roi_align second map {match[0][6:]}", out, a[match[0]], 2e-5)


def nms(a: Arrays, table: Table) -> None:
    for match in matching(a, r"(\w+?)_keep_(?:(offset|caffe|milvlg)_)?(\d\.\d+)"):
        name, how, threshold = match[1], match[2], float(match[3])
        if name.startswith("adaptive"):
            continue
        b, s = a.tensor(f"{name}_boxes"), a.tensor(f"{name}_scores")
        legacy = name.startswith("legacy")
        if f"{name}_classes" in a and how == "offset":
            classes = a.tensor(f"{name}_classes")
            moved = b + (classes.float() * (b.max() + 1))[:, None]
            keep = ops.nms(moved, s, threshold)
        elif f"{name}_classes" in a:
            keep = ops.batched_nms(b, s, a.tensor(f"{name}_classes"), threshold)
        else:
            keep = ops.nms(b, s, threshold, plus_one=legacy, inclusive=how == "milvlg")
        if how == "milvlg":
            keep = keep.sort().values  # this kernel returns index order
        peer = "milvlg" if how == "milvlg" else "caffe" if legacy else "torchvision"
        table.equal(peer, f"nms {match[0]}", keep, a[match[0]])
    for match in matching(a, r"adaptive_(\d+)_(\d+)_(\d\.\d+)_keep"):
        adaptive(a, table, int(match[1]), int(match[2]), float(match[3]), match[0].removesuffix("_keep"))


def adaptive(a: Arrays, table: Table, least: int, most: int, score: float, name: str) -> None:
    probs = a.tensor("adaptive_probs").roll(-1, 1)  # background from first to last
    rows, _ = ops.select_boxes(
        a.tensor("adaptive_boxes"), probs, nms_threshold=0.3, score_threshold=score, min_boxes=least, max_boxes=most
    )
    confs, ids = probs[rows, :-1].max(1)
    table.equal("milvlg", f"select_boxes {name}", rows, a[f"{name}_keep"])
    table.equal("milvlg", f"select_boxes {name} ids", ids, a[f"{name}_objects_id"])
    table.close("milvlg", f"select_boxes {name} confidences", confs, a[f"{name}_objects_conf"], 1e-6)


def boxes(a: Arrays, table: Table) -> None:
    src, dst, deltas = a.tensor("src"), a.tensor("dst"), a.tensor("deltas")
    clamp = float(a["scale_clamp"])
    for match in matching(a, r"(legacy_)?(encode|decode)_([\d_]+)"):
        weights = tuple(float(w) for w in match[3].split("_"))
        legacy, peer = bool(match[1]), "milvlg" if match[1] else "detectron2"
        if match[2] == "encode":
            got = ops.encode_deltas(src, dst, weights, plus_one=legacy)
            table.close(peer, f"encode {match[3]}", got, a[match[0]], 1e-4)
            if not legacy:
                back = ops.decode_deltas(got, src, weights, clamp=clamp)
                table.close(peer, f"decode of encode {match[3]}", back, a[f"roundtrip_{match[3]}"], PIXELS)
        else:
            got = ops.decode_deltas(deltas, src, weights, clamp=clamp, plus_one=legacy)
            table.close(peer, f"decode {match[3]}", got, a[match[0]], PIXELS)
            if not legacy:
                got = ops.decode_deltas(deltas.double(), src.double(), weights, clamp=clamp)
                table.close(peer, f"decode float64 {match[3]}", got, a[f"decode64_{match[3]}"], PIXELS)
    clipping(a, table)
    table.close("detectron2", "box_iou", ops.box_iou(a.tensor("iou_a"), a.tensor("iou_b")), a["iou"], 1e-6)
    legacy_iou = ops.box_iou(a.tensor("iou_a"), a.tensor("iou_b"), plus_one=True)
    table.close("caffe", "box_iou +1", legacy_iou, a["iou_legacy64"], 1e-6)
    raw, sizes = a.tensor("norm_boxes"), a.tensor("norm_hw")
    table.close("hf", "normalize_boxes", ops.normalize_boxes(raw, sizes), a["norm_out"], 1e-6)
    table.close("hf", "geom4", ops.box_geometry(raw, sizes, "geom4"), a["norm_out"], 1e-6)
    back = ops.denormalize_boxes(a.tensor("norm_out"), sizes)
    table.close("hf", "denormalize_boxes", back, raw, 1e-3)


def clipping(a: Arrays, table: Table) -> None:
    size = (304, 400)  # height and width of the picture all references of this file use
    for legacy, prefix, peer in ((False, "", "detectron2"), (True, "legacy_", "milvlg")):
        out = ops.clip_boxes(a.tensor("clip_in"), size, inclusive=legacy)
        table.close(peer, "clip_boxes", out, a[f"{prefix}clip_out"], 1e-6)
        sides = out[:, 2:] - out[:, :2] + float(legacy)
        for match in matching(a, rf"{'legacy' if legacy else 'clip'}_nonempty_(\d+)"):
            table.equal(peer, f"sides above {match[1]}", (sides > float(match[1])).all(1), a[match[0]])


def anchors(a: Arrays, table: Table) -> None:
    for match in matching(a, r"cell_(\d+)_(\d+)"):
        sizes = [2**k for k in range(int(match[1]).bit_length() - 1, int(match[2]).bit_length())]
        cell = detectron2_anchors(sizes, (0.5, 1.0, 2.0))
        table.close("detectron2", f"anchors {match[0]}", cell, a[match[0]], 1e-4)
        for m in matching(a, rf"grid_{match[1]}_{match[2]}_off([\d.]+)_([A-Z])"):
            got = grid(cell, *map(int, a[f"hw_{m[2]}"]), 16, float(m[1]))
            table.close("detectron2", f"anchors {m[0]}", got, a[m[0]], 1e-3)
    for match in matching(a, r"legacy_cell_(\d+)_(\d+)"):
        scales = [2**k for k in range(int(match[1]).bit_length() - 1, int(match[2]).bit_length())]
        cell = caffe_anchors(scales, (0.5, 1.0, 2.0), 16)
        table.equal("caffe", f"anchors {match[0]}", cell, a[match[0]])
        for m in matching(a, rf"legacy_grid_{match[1]}_{match[2]}_([A-Z])"):
            table.equal("caffe", f"anchors {m[0]}", grid(cell, *map(int, a[f"hw_{m[1]}"]), 16, 0.0), a[m[0]])
    if "custom_cell" in a:
        cell = detectron2_anchors(a["custom_sizes"].tolist(), a["custom_ratios"].tolist())
        table.close("detectron2", "anchors custom", cell, a["custom_cell"], 1e-4)
        for m in matching(a, r"custom_grid_([A-Z])"):
            got = grid(cell, *map(int, a[f"hw_{m[1]}"]), int(a["custom_stride"]), 0.25)
            table.close("detectron2", f"anchors {m[0]}", got, a[m[0]], 1e-3)


def resize(a: Arrays, table: Table) -> None:
    for match in matching(a, r"(legacy_)?shape_(\d+)_(\d+)"):
        profile = sized("caffe-36" if match[1] else "hf-demo-fixed", match[2], match[3])
        want = a[match[0]]
        frames = [frame_for(height, width, profile) for height, width in a["raw_hw"].tolist()]
        # Where a side vanishes the references keep a zero or refuse, and there is nothing to match.
        there = (want != 0).all(1)
        sizes = np.array([frame.size for frame in frames])[there]
        table.equal("caffe" if match[1] else "detectron2", f"sizes {match[2]}/{match[3]}", sizes, want[there])
        if match[1]:
            known = a[f"legacy_scale_{match[2]}_{match[3]}"]
            got = np.array([frame.scale[0] for frame in frames])
            table.close("caffe", f"scale {match[2]}/{match[3]}", got[there], known[there], 1e-12)
    for name, route, peer in (("caffe-36", "legacy", "caffe"), ("hf-demo-fixed", "hf", "hf"),
                              ("airsplay-maxnms", "d2", "detectron2")):  # fmt: skip
        for match in matching(a, rf"{route}_(\d+)_(\d+)"):
            pixels(a, table, sized(name, match[1], match[2]), match[0], peer)
    for match in matching(a, r"legacy_scale_px_(\d+)_(\d+)"):
        frame = frame_for(*a["image_rgb"].shape[:2], sized("caffe-36", match[1], match[2]))
        table.close("caffe", f"pixel scale {match[1]}/{match[2]}", frame.scale[0], a[match[0]], 1e-12)


def sized(name: str, short: str, long: str) -> Profile:
    return replace(PROFILES[name], short_side=int(short), long_side=int(long))


def pixels(a: Arrays, table: Table, profile: Profile, name: str, peer: str) -> None:
    image, want = a["image_rgb"], a[name]
    got = to_input(image, frame_for(*image.shape[:2], profile), profile)
    if profile.resize != "cv2":  # these references stop before the mean
        got = got + torch.tensor(profile.pixel_mean)[:, None, None]
    if profile.resize == "pil":
        want = want.transpose(2, 0, 1)
    table.close(peer, f"resized pixels {name}", got, want, MARGIN)
