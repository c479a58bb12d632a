"""Parity profiles: every switch in which the published extractors differ, as data.

Four programs turn the same Visual Genome weights into region features, and no two give the same numbers. A
:class:`Profile` names each choice; the pipeline reads the fields and never asks whose profile it is. The hash of a
profile is written into every store, so that two stores can be told apart years later.

Sources of the values: peteanderson80/bottom-up-attention (Caffe), airsplay/py-bottom-up-attention and airsplay/lxmert,
the LXMERT demo of Hugging Face, MILVLG/bottom-up-attention.pytorch, facebookresearch/detectron2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from featx.errors import UsageError
from featx.store.rule import LEVELS, fingerprint, parse_boxes, parse_threshold

CAFFE_MEAN = (102.9801, 115.9465, 122.7717)
DETECTRON2_MEAN = (103.530, 116.280, 123.675)

# Smallest sensible value of the numeric switches that have one.
LEAST = {"short_side": 16, "long_side": 16, "norm_eps": 0.0, "min_size": 0.0, "pre_nms": 1, "post_nms": 1,
         "rpn_nms": 0.0, "resolution": 1, "score_threshold": 0.0, "superset": 0}  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """The switches between a picture and its kept boxes. Defaults are those of the Caffe original, 36 boxes."""

    name: str
    about: str = ""

    # Picture -> network input.
    channels: Literal["bgr", "rgb"] = "bgr"  # order in which the network receives the picture
    pixel_mean: tuple[float, float, float] = CAFFE_MEAN  # subtracted from channel 0, 1, 2 *as received*
    pixel_std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    resize: Literal["cv2", "pil", "torch"] = "cv2"  # cv2: float, after the mean; pil: uint8, antialiased; torch: float
    size_rule: Literal["isotropic", "per-axis"] = "isotropic"  # round-half-even of side*s, or int(side*s + 0.5)
    short_side: int = 600
    long_side: int = 1000

    # Trunk.
    stem_pool: Literal["caffe", "padded"] = "caffe"  # 3x3/2 max pool: pad 0 with ceil, or pad 1
    norm_eps: float = 1e-5

    # Proposals. The anchors are not a switch: they belong to the weights, which carry them.
    plus_one: bool = True  # widths are x1 - x0 + 1, and coordinates are clipped to W - 1
    clamp: bool = False  # limit dw, dh to log(1000 / 16) before exp
    min_size: float = 16.0  # of a proposal's sides, in pixels of the *original* when min_size_scaled
    min_size_scaled: bool = True
    min_size_strict: bool = False  # side > min_size instead of >=
    filter_first: bool = True  # drop small boxes before, not after, the first cut
    pre_nms: int = 6000
    post_nms: int = 300
    rpn_nms: float = 0.7
    nms_inclusive: bool = True  # suppress at IoU >= threshold instead of >

    # Regions.
    pooler: Literal["pool", "align"] = "pool"  # legacy RoIPool, or RoIAlign (aligned, adaptive sampling)
    resolution: int = 14
    res5: Literal["dilated", "strided"] = "dilated"  # 14x14 with dilation 2, or stride 2 to 7x7
    delta_weights: tuple[float, float, float, float] | None = None  # of the box head; None: what the weights say
    attribute_background: bool = True  # the attribute softmax includes "no attribute"

    # Selection.
    select: Literal["classwise", "maxnms", "multilabel"] = "classwise"
    thresholds: tuple[float, ...] = (0.3,)  # of the final NMS, tried in turn (classwise uses the first)
    score_threshold: float = 0.2
    min_boxes: int = 36
    max_boxes: int = 36
    boxes: Literal["proposal", "regressed"] = "proposal"  # which box is written as *the* box
    final_clip: bool = False  # clip written boxes to the original picture
    drop_empty: bool = False  # drop regions whose regressed box has no area (detector_postprocess of detectron2)
    superset: int = 0  # keep what decides any choice of up to so many boxes, to be made at reading time; 0: choose now

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(Profile).items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), hint))
        if not 1 <= self.min_boxes <= self.max_boxes:
            raise UsageError(
                f"profile {self.name!r} asks for {self.min_boxes} to {self.max_boxes} boxes",
                "give 1 <= min <= max, for example --boxes 36 or --boxes 10..100",
            )
        # Under multilabel a proposal may appear once per class, so there is no such bound.
        if self.select != "multilabel" and self.max_boxes > self.post_nms:
            raise UsageError(
                f"{self.max_boxes} boxes asked for, but the profile {self.name!r} keeps {self.post_nms} proposals",
                "ask for fewer boxes",
            )
        if self.superset:
            self._check_superset()

    def _check_superset(self) -> None:
        most = self.superset if self.select == "multilabel" else self.post_nms
        if not self.max_boxes <= self.superset <= most:
            raise UsageError(
                f"a superset of {self.superset} is asked for, of the profile {self.name!r}, which itself wants up to "
                f"{self.max_boxes} boxes" + (f" and has {most} proposals" if self.superset > most else ""),
                "give --superset a number from the most boxes that will be read to that of the proposals",
            )
        if len(self.thresholds) > LEVELS:
            raise UsageError(
                f"the profile {self.name!r} has {len(self.thresholds)} NMS thresholds, a superset notes {LEVELS}",
                "give fewer thresholds, or extract without --superset",
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON form, switches and names."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    def switches(self) -> dict[str, Any]:
        """JSON form without the description, which may be reworded at any time; ``superset`` only where it is one."""
        without = {"about"} if self.superset else {"about", "superset"}
        return {name: value for name, value in self.to_dict().items() if name not in without}

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the sha256 over every switch (not the name): equal hash, equal behaviour."""
        return fingerprint(self.switches())

    @property
    def rows(self) -> int | None:
        """Rows of every record: K for a fixed number of boxes, None for an adaptive one and for a superset."""
        return self.max_boxes if self.min_boxes == self.max_boxes and not self.superset else None

    def with_boxes(self, boxes: str | int) -> Profile:
        """The profile with another number of boxes: ``36`` (fixed) or ``10..100`` (adaptive)."""
        low, high = parse_boxes(boxes)
        return replace(self, min_boxes=low, max_boxes=high)

    def with_score_threshold(self, threshold: str | float) -> Profile:
        """The profile with another score threshold. Raises UsageError where its rule looks at none."""
        if self.select == "maxnms":
            raise UsageError(
                f"the rule of the profile {self.name!r}, maxnms, looks at no score threshold",
                "leave --score-threshold out",
            )
        return replace(self, score_threshold=parse_threshold(threshold))

    def with_superset(self, superset: str | int) -> Profile:
        """The profile that keeps what any choice of up to ``superset`` boxes needs."""
        if isinstance(superset, bool) or not str(superset).strip().isdecimal() or not int(superset):
            raise UsageError(f"--superset {superset!r} is not understood", "write --superset 100")
        return replace(self, superset=int(superset))


def _checked(name: str, value: Any, hint: Any) -> Any:
    """The value of a switch in its own type. Raises UsageError for one that the switch cannot have."""
    allowed = get_args(hint)
    if get_origin(hint) is Literal:
        if value in allowed:
            return value
        raise UsageError(f"the switch {name} is {value!r}", f"it can be {', '.join(map(repr, allowed))}")
    if hint is float and type(value) is int:
        value = float(value)
    if hint in (bool, int, float, str) and type(value) is hint:
        if name in LEAST and not value >= LEAST[name]:
            raise UsageError(f"the switch {name} is {value}", f"it must be at least {LEAST[name]}")
        return value
    if value is None and type(None) in allowed:
        return None
    numbers = isinstance(value, list | tuple) and value and all(isinstance(v, int | float) for v in value)
    if numbers and (name == "thresholds" or len(value) == (4 if name == "delta_weights" else 3)):
        return tuple(float(v) for v in value)
    raise UsageError(f"the switch {name} is {value!r}", "see extractors/profiles.py for what it can be")


_CAFFE = Profile("caffe-36", "the Caffe original with MIN_BOXES = MAX_BOXES = 36")
_DETECTRON2_STYLE = replace(
    _CAFFE, size_rule="per-axis", plus_one=False, clamp=True, min_size=0.0, min_size_scaled=False,
    min_size_strict=True, filter_first=False, nms_inclusive=False, attribute_background=False, boxes="regressed",
)  # fmt: skip
_HF = replace(
    _DETECTRON2_STYLE, name="hf-demo-fixed",
    about="the LXMERT demo of Hugging Face with the channels in the order the weights expect (as it treats URLs)",
    resize="torch", short_side=800, long_side=1333, select="maxnms",
    thresholds=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
)  # fmt: skip
_AIRSPLAY = replace(
    _DETECTRON2_STYLE, name="airsplay-maxnms",
    about="airsplay's COCO script: class-agnostic NMS on regressed boxes, threshold raised from 0.3 until 36 survive",
    resize="pil", select="maxnms", final_clip=True, drop_empty=True, thresholds=(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
)  # fmt: skip
_MILVLG = replace(
    _CAFFE, name="milvlg-10-100", about="MILVLG's Caffe mode, adaptive", clamp=True, min_size_strict=True,
    min_boxes=10, max_boxes=100,
)  # fmt: skip

PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        _CAFFE,
        replace(_CAFFE, name="caffe-10-100", about="the Caffe original, adaptive", min_boxes=10, max_boxes=100),
        replace(_CAFFE, name="lxmert-published", about="how the published LXMERT features (obj36) were made"),
        _AIRSPLAY,
        replace(
            _AIRSPLAY, name="airsplay-notebook", about="airsplay's attribute notebooks: class-wise NMS on every class",
            select="multilabel", thresholds=(0.5, 0.6, 0.7, 0.8, 0.9), short_side=800, long_side=1333,
        ),
        replace(_HF, name="hf-demo", about="the LXMERT demo of Hugging Face reading a file: red and blue swapped",
                channels="rgb"),
        _HF,
        _MILVLG,
        replace(_MILVLG, name="milvlg-36", about="MILVLG's Caffe mode, 36 boxes", min_boxes=36, max_boxes=36),
        replace(
            _AIRSPLAY, name="detectron2-c4", about="detectron2's R-101-C4: RoIAlign, res5 with stride, no attributes",
            pixel_mean=DETECTRON2_MEAN, short_side=800, long_side=1333, stem_pool="padded", pooler="align",
            res5="strided", select="multilabel", thresholds=(0.5,), score_threshold=0.05, post_nms=1000,
            min_boxes=1, max_boxes=100,
        ),
        replace(
            _CAFFE, name="scenes-36", about="drawn scenes (weights tiny): small pictures, about one box for each thing",
            pixel_std=(58.0, 58.0, 58.0), short_side=240, long_side=400, stem_pool="padded", plus_one=False, clamp=True,
            min_size=8.0, pre_nms=300, post_nms=60, rpn_nms=0.6, nms_inclusive=False, pooler="align", resolution=5,
            score_threshold=0.5, min_boxes=1, max_boxes=36, boxes="regressed", final_clip=True,
        ),
    )
}  # fmt: skip


def get_profile(spec: str | Mapping[str, Any]) -> Profile:
    """The profile of a name, or of a mapping ``{base: NAME, switch: value, ...}``.

    Raises UsageError for a name or switch that does not exist.
    """
    if isinstance(spec, str):
        if spec not in PROFILES:
            raise UsageError(f"no profile is called {spec!r}", f"the profiles are {', '.join(PROFILES)}")
        return PROFILES[spec]
    if not isinstance(spec, Mapping):
        raise UsageError(f"the profile is {spec!r}", "give its name, or a mapping {base: NAME, switch: value}")
    changes = {str(name): value for name, value in spec.items()}
    base = get_profile(str(changes.pop("base", "caffe-36")))
    known = {f.name for f in fields(Profile)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise UsageError(
            f"a profile has no switch {', '.join(map(repr, unknown))}", f"the switches are {', '.join(sorted(known))}"
        )
    return replace(base, **{"name": f"{base.name}*", **changes})
