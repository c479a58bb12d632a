"""``hf/``, ``full/``, ``vg/`` and ``d2/``: whole networks, stage by stage, in each peer's profile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from featx import ops
from featx.decode import decode
from featx_extractors.anchors import detectron2_anchors
from featx_extractors.detector import Detector
from featx_extractors.preprocess import Frame, frame_for, to_input
from featx_extractors.profiles import PROFILES, Profile
from featx_extractors.proposals import anchor_grid
from featx_extractors.selection import Regression, Selection, best_class, select
from featx_extractors.weights.checkpoint import Checkpoint
from featx_extractors.weights.detect import normalise
from tests.parity.folder import Arrays, Folder
from tests.parity.recipe import recipe_tensors
from tests.parity.table import Table

# Tolerances of the README of the references: the float32 noise of the network itself, with room.
RES4, LOGITS, PIXELS, PROBS = 3e-4, 4e-4, 0.02, 1e-4


@dataclass(frozen=True)
class Limits:
    """Tolerances that depend on the network (RoIAlign amplifies the noise of the proposals)."""

    features: float = 1e-4
    class_logits: float = 4e-4
    pooled: float = 3e-4
    res5: float = 3e-4


# How the references thinned the stages they could not store whole.
SMALL = {"stem": (2, 4, 4), "res2": (4, 4, 4), "res3": (4, 2, 2), "pooled": (10, 8), "res5": (10, 16)}
FULL = {"stem": (16, 4, 4), "res2": (16, 4, 4), "res3": (16, 4, 4), "res4": (16, 4, 4), "rpn_deltas": (1, 3, 3),
        "feature_pooled": (10,), "obj_logits": (10,)}  # fmt: skip


@dataclass
class Case:
    """One picture on its way through a detector, compared as it goes."""

    detector: Detector
    arrays: Arrays
    table: Table
    peer: str
    label: str
    limits: Limits
    steps: Mapping[str, tuple[int, ...]]

    def close(self, name: str, got: Any, tolerance: float) -> None:
        """Compare with the array of that name, if the folder has it."""
        if name in self.arrays:
            self.table.close(self.peer, f"{self.label} {name}", got, self.arrays[name], tolerance)

    def equal(self, name: str, got: Any) -> None:
        if name in self.arrays:
            self.table.equal(self.peer, f"{self.label} {name}", got, self.arrays[name])

    def stage(self, name: str, got: torch.Tensor, tolerance: float) -> None:
        """Compare a whole stage, its strided sample ``_sub``, its ``_shape`` and its six numbers ``_summary``."""
        self.close(name, got, tolerance)
        self.equal(f"{name}_shape", list(got.shape))
        self.summary(f"{name}_summary", got, tolerance)
        sample = got[tuple(slice(None, None, step) for step in self.steps.get(name, ()))]
        self.close(f"{name}_sub", sample, tolerance)

    def summary(self, name: str, got: torch.Tensor, tolerance: float = RES4) -> None:
        if name in self.arrays:
            v = got.detach().contiguous().double().flatten().numpy()
            six = [v.mean(), v.std(), v.min(), v.max(), np.linalg.norm(v), (v * (np.arange(len(v)) % 97 + 1)).sum()]
            # The last two grow with the size of the tensor: taken relative to what rounding could do to them.
            scale = np.array([1, 1, 1, 1, np.linalg.norm(v), np.abs(v).sum() * 49])
            got_six, want = np.array(six) / scale, self.arrays[name] / scale
            self.table.close(self.peer, f"{self.label} {name}", got_six, want, tolerance)

    # -- the stages, in order -----------------------------------------------------------------------------------------

    def trunk(self, inputs: torch.Tensor) -> torch.Tensor:
        """Stem to res4 of one picture ``[1, 3, H, W]``."""
        trunk = self.detector.network.trunk
        x = trunk.pooled_stem(inputs)
        self.stage("stem", x[0], RES4)
        for name in ("res2", "res3", "res4"):
            x = getattr(trunk, name)(x)
            self.stage(name, x[0], RES4)
        return x

    def proposals(self, res4: torch.Tensor, frame: Frame) -> torch.Tensor:
        head = self.detector.network.proposal_head
        height, width = res4.shape[2:]
        logits, deltas = head(res4)
        self.stage("rpn_logits", logits[0].view(height, width, -1).permute(2, 0, 1), LOGITS)
        self.stage("rpn_deltas", deltas[0].reshape(height, width, -1).permute(2, 0, 1), LOGITS)
        self.close("anchors", anchor_grid(head.cell_anchors, height, width), 1e-3)
        found = self.detector.propose(res4, [frame])[0]
        self.close("proposals", found.boxes, PIXELS)
        self.close("proposal_logits", found.logits, LOGITS)
        self.equal("proposal_anchor_index", found.anchors)
        return found.boxes

    def regions(self, res4: torch.Tensor, boxes: torch.Tensor, prefix: str = "") -> Any:
        """Pooling, res5 and the predictor for ``boxes`` in input pixels."""
        network = self.detector.network
        if not prefix:
            pooled = torch.cat(list(self.detector.pooled(res4, boxes)))
            self.stage("pooled", pooled, self.limits.pooled)
            self.stage("res5", network.res5.blocks(pooled.clone()), self.limits.res5)
        out = network.predictor(self.detector.region_features(res4, boxes))
        names = ("features", "obj_logits", "attr_logits") if prefix else ("feature_pooled", "obj_logits", "attr_logits")
        self.stage(prefix + names[0], out.features, self.limits.features)
        self.stage(prefix + names[1], out.class_logits, self.limits.class_logits)
        if out.attribute_logits is not None:
            self.stage(prefix + names[2], out.attribute_logits, self.limits.class_logits)
        if not prefix:
            self.stage("box_deltas", out.deltas, LOGITS)
        return out

    def chosen(self, proposals: torch.Tensor, out: Any, frame: Frame) -> tuple[Regression, Selection]:
        """The rows that are kept, by the profile's rule."""
        detector = self.detector
        regression = Regression(proposals, out.deltas, detector.delta_weights, frame, detector.profile)
        return regression, select(regression, out, frame.to_original(proposals))


def detector_of(tensors: Mapping[str, Any], profile: Profile, config: Mapping[str, Any], path: Path) -> Detector:
    """A detector on a peer's tensors, through the same normal form as any imported weights."""
    anchors = config["ANCHOR_GENERATOR"]
    cell = detectron2_anchors(anchors["SIZES"][0], anchors["ASPECT_RATIOS"][0])
    named = {"proposal_generator.anchor_generator.cell_anchors.0": cell, **tensors}
    return Detector(normalise(Checkpoint("huggingface", named), path, "", given=profile.delta_weights), profile)


def profile_of(base: str, config: Mapping[str, Any]) -> Profile:
    """The profile a peer's configuration file describes."""
    flat = {**config, **config.get("MODEL", {}), **config.get("ROI_HEADS", {}), **config.get("ROI_BOX_HEAD", {})}
    profile = PROFILES[base]
    thresholds = flat.get("NMS_THRESH_TEST", profile.thresholds)
    return replace(
        profile,
        short_side=config["INPUT"]["MIN_SIZE_TEST"],
        long_side=config["INPUT"]["MAX_SIZE_TEST"],
        pixel_mean=tuple(flat.get("PIXEL_MEAN", flat.get("PIXEL_MEAN_BGR"))),
        pixel_std=tuple(flat["PIXEL_STD"]),
        pre_nms=config["RPN"]["PRE_NMS_TOPK_TEST"],
        post_nms=config["RPN"]["POST_NMS_TOPK_TEST"],
        rpn_nms=config["RPN"]["NMS_THRESH"],
        delta_weights=tuple(flat.get("BBOX_REG_WEIGHTS", (10.0, 10.0, 5.0, 5.0))),
        thresholds=tuple(thresholds) if isinstance(thresholds, (list, tuple)) else (thresholds,),
        score_threshold=flat.get("SCORE_THRESH_TEST", flat.get("SCORE_THRESH", profile.score_threshold)),
        max_boxes=flat.get("MAX_DETECTIONS", flat.get("DETECTIONS_PER_IMAGE", flat.get("NUM_OBJECTS"))),
        min_boxes=flat.get("MIN_DETECTIONS", flat.get("DETECTIONS_PER_IMAGE", flat.get("NUM_OBJECTS"))),
    )


def picture(case: Case, folder: Folder, profile: Profile) -> tuple[torch.Tensor, Frame]:
    """The network input of the stored picture, compared with the peer's; the PNG beside it must decode to it."""
    image = case.arrays["image_rgb"]
    png = folder.path / ("image.png" if case.label == "full" else f"image_{case.label}.png")
    case.table.equal(case.peer, f"{case.label} {png.name}", decode(png.read_bytes()), image)
    frame = frame_for(*image.shape[:2], profile)
    inputs = to_input(image, frame, profile)
    case.equal("size", frame.size)
    case.close("scale_yx", [1 / frame.scale[1], 1 / frame.scale[0]], 1e-6)
    case.close("preproc", inputs, 1e-4)
    case.summary("preproc_summary", inputs)
    if "resized_bgr" in case.arrays:
        mean = torch.tensor(profile.pixel_mean)[:, None, None]
        case.equal("resized_bgr", (inputs + mean).round().byte().permute(1, 2, 0))
    return inputs[None], frame


@torch.inference_mode()
def compare_hf(folder: Folder, table: Table) -> None:
    """``hf/`` (stored weights, several pictures, a padded batch) and ``full/`` (weights from the recipe)."""
    config = yaml.safe_load((folder.path / "config.yaml").read_text())
    profile = profile_of("hf-demo-fixed", config)
    full = (folder.path / "recipe.json").exists()
    if full:
        tensors = recipe_tensors(folder.path, folder.arrays("calibrated.safetensors"))
    else:
        tensors = dict(folder.arrays("weights.safetensors").items())
    detector = detector_of(tensors, profile, config, folder.path)
    frames = {}
    for name in ["outputs.npz"] if full else folder.files("image_?.npz"):
        label = "full" if full else name[6]
        steps = FULL if full else SMALL
        case = Case(detector, folder.arrays(name), table, folder.name, label, Limits(), steps)
        inputs, frame = picture(case, folder, profile)
        frames[label] = (inputs, frame)
        hf_picture(case, inputs, frame)
    if "batch.npz" in folder.files("*.npz"):
        hf_batch(folder, table, detector, frames)
    if "preprocess.npz" in folder.files("*.npz"):
        hf_preprocess(folder, table, profile)


def hf_picture(case: Case, inputs: torch.Tensor, frame: Frame) -> None:
    profile = case.detector.profile
    res4 = case.trunk(inputs)
    boxes = case.proposals(res4, frame)
    out = case.regions(res4, boxes)
    regression, kept = case.chosen(boxes, out, frame)
    confs, ids = best_class(out.probs)
    case.equal("obj_max_id", ids)
    case.close("obj_max_prob", confs, PROBS)
    attr_confs, attr_ids = out.attribute_logits[:, :-1].softmax(-1).max(-1)
    case.equal("attr_max_id", attr_ids)
    case.close("attr_max_prob", attr_confs, PROBS)
    every = torch.arange(len(boxes))
    raw = ops.decode_deltas(out.deltas.view(len(boxes), -1, 4)[every, ids], boxes, regression.weights)
    case.close("selected_boxes_unclipped", raw, PIXELS)
    selected = regression.boxes(every, ids)
    case.close("selected_boxes", selected, PIXELS)
    case.equal("nms_counts", [len(ops.nms(selected, confs, t)) for t in profile.thresholds])
    case.close("nms_thresh_used", kept.threshold, 0)
    case.equal("keep", kept.rows)
    case.equal("keep_before_cut", ops.nms(selected, confs, kept.threshold))
    records(case, case.detector.detect(inputs, [frame])[0], frame)
    if "given_boxes_raw" in case.arrays:
        given = frame.to_input(case.arrays.tensor("given_boxes_raw"))
        case.close("given_boxes", given, 1e-3)
        case.regions(res4, given, "given_")


def records(case: Case, found: Any, frame: Frame, row: int | None = None) -> None:
    """The final arrays ``out_*`` of one picture, from the detector's own whole path."""
    height, width = frame.original
    normalised = ops.normalize_boxes(found.regressed[None], torch.tensor([[height, width]]).float())[0]
    values = {
        "out_obj_ids": found.object_ids,
        "out_obj_probs": found.object_confs,
        "out_attr_ids": found.attribute_ids,
        "out_attr_probs": found.attribute_confs,
        "out_boxes": found.regressed,
        "out_roi_features": found.features,
        "out_normalized_boxes": normalised,
    }
    for name, got in values.items():
        if name not in case.arrays:
            continue
        want = case.arrays[name] if row is None else case.arrays[name][row]
        label = f"{case.label} {name}" if row is None else f"{case.label} {name}[{row}]"
        if name.endswith("_ids"):
            case.table.equal(case.peer, label, got, want)
        else:
            case.table.close(case.peer, label, got, want, PIXELS if name == "out_boxes" else case.limits.features)


def hf_batch(folder: Folder, table: Table, detector: Detector, frames: Mapping[str, Any]) -> None:
    """Two pictures of different size in one padded batch: featx never makes one, but the network must agree."""
    a = folder.arrays("batch.npz")
    case = Case(detector, a, table, folder.name, "batch", Limits(), SMALL)
    labels = ["abcdefgh"[i] for i in a["order"].tolist()]
    parts, sizes = [frames[label] for label in labels], [frames[label][1] for label in labels]
    height, width = (max(f.size[i] for f in sizes) for i in (0, 1))
    inputs = torch.zeros(len(parts), 3, height, width)
    for i, (x, frame) in enumerate(parts):
        inputs[i, :, : frame.size[0], : frame.size[1]] = x[0]
    case.close("preproc", inputs, 1e-4)
    case.equal("sizes", [f.size for f in sizes])
    case.close("scales_yx", [[1 / f.scale[1], 1 / f.scale[0]] for f in sizes], 1e-6)
    res4 = detector.trunk(inputs)
    case.close("res4", res4, RES4)
    for i, found in enumerate(detector.propose(res4, sizes)):
        case.close(f"proposals_{i}", found.boxes, PIXELS)
        case.close(f"proposal_logits_{i}", found.logits, LOGITS)
    for i, found in enumerate(detector.detect(inputs, sizes)):
        records(case, found, sizes[i], i)
    wrong = a["peer_normalized_boxes"]  # the peer's broadcast over two pictures; must not be matched
    case.table.equal(
        case.peer, "batch peer_normalized_boxes differs", not np.allclose(wrong, a["out_normalized_boxes"]), True
    )


def hf_preprocess(folder: Folder, table: Table, profile: Profile) -> None:
    """Other sizes, and the file route of the demo with its swapped channels."""
    a = folder.arrays("preprocess.npz")
    for name in a:
        image = folder.arrays(f"image_{name.split('_')[1]}.npz")["image_rgb"]
        if match := re.fullmatch(r"(preproc|scale)_\w_(\d+)_(\d+)", name):
            other = replace(profile, short_side=int(match[2]), long_side=int(match[3]))
            frame = frame_for(*image.shape[:2], other)
            if match[1] == "scale":
                table.close("hf", name, [1 / frame.scale[1], 1 / frame.scale[0]], a[name], 1e-6)
            else:
                table.close("hf", name, to_input(image, frame, other), a[name], 1e-4)
        elif name.endswith("_file_format_BGR"):
            swapped = replace(profile, channels=PROFILES["hf-demo"].channels)
            got = to_input(image, frame_for(*image.shape[:2], swapped), swapped)
            table.close("hf", name, got[:, : a[name].shape[1]], a[name], 1e-4)


@torch.inference_mode()
def compare_vg(folder: Folder, table: Table) -> None:
    """``vg/``: airsplay's fork with the attribute head, in the rule of its notebooks."""
    config = yaml.safe_load((folder.path / "config.yaml").read_text())
    profile = replace(
        profile_of("airsplay-notebook", config),
        stem_pool="caffe" if config["CAFFE_MAXPOOL"] else "padded",
    )
    weights = Folder((folder.path / config["weights"]).resolve().parent)
    tensors = dict(weights.arrays("weights.safetensors").items())
    detector = detector_of(tensors, profile, config, folder.path)
    for name in folder.files("image_?.npz"):
        case = Case(detector, folder.arrays(name), table, folder.name, name[6], Limits(), SMALL)
        inputs, frame = picture(case, folder, profile)
        res4 = case.trunk(inputs)
        boxes = case.proposals(res4, frame)
        _, kept = case.chosen(boxes, case.regions(res4, boxes), frame)
        case.equal("out_ids", kept.rows)
        case.close("thresh_used", kept.threshold, 1e-6)
        records(case, detector.detect(inputs, [frame])[0], frame)


@torch.inference_mode()
def compare_d2(folder: Folder, table: Table) -> None:
    """``d2/``: detectron2's own C4 with RoIAlign, strided res5 and class-wise detections."""
    config = yaml.safe_load((folder.path / "config.yaml").read_text())
    profile = replace(profile_of("detectron2-c4", config), min_boxes=1)
    detector = detector_of(dict(folder.arrays("weights.safetensors").items()), profile, config, folder.path)
    limits = Limits(features=4e-4, class_logits=2e-3, pooled=1.5e-3, res5=3e-3)
    for name in folder.files("image_?.npz"):
        case = Case(detector, folder.arrays(name), table, folder.name, name[6], limits, SMALL)
        inputs, frame = picture(case, folder, profile)
        res4 = case.trunk(inputs)
        boxes = case.proposals(res4, frame)
        out = case.regions(res4, boxes)
        regression, kept = case.chosen(boxes, out, frame)
        case.equal("det_ids", kept.rows)
        case.equal("det_classes", kept.classes)
        case.close("det_scores", kept.confs, PROBS)
        case.close("det_boxes", regression.boxes(kept.rows, kept.classes), PIXELS)
        everything = replace(profile, max_boxes=1_000_000)
        all_kept = select(regression._replace(profile=everything), out, boxes)
        case.close("all_det_scores", all_kept.confs, PROBS)
        found = detector.detect(inputs, [frame])[0]
        case.close("out_boxes", found.regressed, PIXELS)
        case.close("out_scores", found.object_confs, PROBS)
        case.equal("out_classes", found.object_ids)
