"""The detectron2 backend: against detectron2's recorded outputs, against our own network, and without detectron2."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from featx.cli import main
from featx.decode import Policy, decode
from featx.errors import MissingDependency, PictureRefused, UsageError, WeightsError
from featx.extractor import Picture
from featx.record import Record
from featx.registry import survey
from featx.store import open_store
from featx_extractors.detectron2 import Detectron2
from featx_extractors.detectron2_model import Detectron2Config, read_config
from featx_extractors.frcnn import FRCNN
from tests.conftest import absent

# torch says these of detectron2's own code, on import and in its anchor generator.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.meshgrid:UserWarning"),
]
FEATURES, PROBS, PIXELS = 4e-4, 1e-4, 0.02  # the tolerances that come with the references
ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"
CLASSES = "roi_heads.box_predictor.cls_score.weight"
HINT = "pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2"
Arrays = dict[str, np.ndarray]
Make = Callable[..., Detectron2]


@pytest.fixture(scope="module")
def installed() -> None:
    """Needs detectron2 itself."""
    try:
        Detectron2.check_available()
    except MissingDependency as error:
        absent(f"{error.message}; {error.hint}", "FEATX_REQUIRE_DETECTRON2")


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "fixtures/frcnn/d2"


@pytest.fixture(scope="module")
def references(folder: Path) -> dict[str, Arrays]:
    """What detectron2 0.6 made of the pictures f, g and h."""
    return {name: dict(np.load(folder / f"image_{name}.npz")) for name in "fgh"}


@pytest.fixture(scope="module")
def settings(folder: Path) -> dict[str, Any]:
    """The references' configuration, written the way detectron2 reads it."""
    said = yaml.safe_load((folder / "config.yaml").read_text())
    resnets, rpn, pictures = (dict(said[name]) for name in ("RESNETS", "RPN", "INPUT"))
    del resnets["BN_EPS"], pictures["resize"]
    model = {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "PIXEL_MEAN": said["PIXEL_MEAN_BGR"],
        "PIXEL_STD": said["PIXEL_STD"],
        "RESNETS": resnets,
        "ANCHOR_GENERATOR": said["ANCHOR_GENERATOR"],
        "PROPOSAL_GENERATOR": {"MIN_SIZE": rpn.pop("MIN_SIZE")},
        "RPN": rpn,
        "ROI_BOX_HEAD": said["ROI_BOX_HEAD"],
        "ROI_HEADS": {"NAME": "Res5ROIHeads", **said["ROI_HEADS"]},
    }
    return {"VERSION": 2, "INPUT": pictures, "MODEL": model, "TEST": {"DETECTIONS_PER_IMAGE": 36}}


@pytest.fixture
def make(installed: None, settings: dict[str, Any], folder: Path, tmp_path: Path) -> Make:
    """Builds the extractor; the keyword ``change`` edits detectron2's configuration first."""

    def build(change: Callable[[dict[str, Any]], Any] | None = None, **options: Any) -> Detectron2:
        data = yaml.safe_load(yaml.safe_dump(settings))
        if change is not None:
            change(data)
        path = tmp_path / "c4.yaml"
        path.write_text(yaml.safe_dump(data))
        given = {"weights": str(folder / "weights.safetensors"), "dtype": "float32", **options}
        return Detectron2.from_options({"d2_config": str(path), **given})

    return build


def records(extractor: Any, *pictures: np.ndarray) -> list[Record]:
    batch = [extractor.prepare(Picture("p", pixels)) for pixels in pictures]
    found = extractor(batch)
    for record in found:
        record.check(extractor.schema)
    return found


def same(record: Record, wanted: Arrays, count: int = 36) -> None:
    """The first ``count`` detections of the reference, with the features and boxes of their proposals."""
    rows = wanted["det_ids"][:count]
    (height, width), (high, wide) = wanted["image_rgb"].shape[:2], wanted["resized_bgr"].shape[:2]
    proposals = wanted["proposals"][rows] * np.array([width / wide, height / high] * 2)
    assert (len(record), record.size) == (count, (height, width))
    np.testing.assert_array_equal(record.object_ids[:count], wanted["out_classes"][:count])
    np.testing.assert_allclose(record.object_confs[:count], wanted["out_scores"][:count], rtol=0, atol=PROBS)
    np.testing.assert_allclose(record.boxes[:count], wanted["out_boxes"][:count], rtol=0, atol=PIXELS)
    np.testing.assert_allclose(record.proposal_boxes[:count], proposals, rtol=0, atol=PIXELS)
    np.testing.assert_allclose(record.features[:count], wanted["feature_pooled"][rows], rtol=0, atol=FEATURES)


# -- the same records -------------------------------------------------------------------------------------------------


def test_the_records_are_what_detectron2_itself_returned(make, references):
    extractor = make()
    for wanted in references.values():
        same(*records(extractor, wanted["image_rgb"]), wanted)


def test_our_own_network_under_its_detectron2_profile_gives_the_same_records(make, references, folder):
    theirs = make()
    profile = {"base": "detectron2-c4", "short_side": 192, "long_side": 288, "pre_nms": 1000, "post_nms": 100}
    ours = FRCNN(weights=str(folder / "weights.safetensors"), profile=profile, boxes="1..36", dtype="float32")
    assert ours.schema == theirs.schema
    for wanted in references.values():
        (a,), (b,) = records(ours, wanted["image_rgb"]), records(theirs, wanted["image_rgb"])
        np.testing.assert_array_equal(a.object_ids, b.object_ids)
        for name, tolerance in (("features", FEATURES), ("object_confs", PROBS), ("boxes", PIXELS)):
            np.testing.assert_allclose(a.array(name), b.array(name), rtol=0, atol=tolerance)
        np.testing.assert_allclose(a.proposal_boxes, b.proposal_boxes, rtol=0, atol=PIXELS)


def test_a_record_does_not_depend_on_its_place_in_a_batch(make, references):
    extractor, wanted = make(), references["f"]
    other = 255 - wanted["image_rgb"]
    same(records(extractor, wanted["image_rgb"], other)[0], wanted)
    same(records(extractor, other, wanted["image_rgb"])[1], wanted)


def test_only_inputs_of_one_size_share_a_batch(make, references):
    extractor = make()
    f, g = (extractor.prepare(Picture(n, references[n]["image_rgb"])) for n in "fg")
    twin = extractor.prepare(Picture("t", np.zeros_like(references["g"]["image_rgb"])))
    assert extractor.group(f) != extractor.group(g) == extractor.group(twin)


def test_an_rgb_configuration_receives_red_first(make, references):
    def rgb(data: dict[str, Any]) -> None:
        data["INPUT"]["FORMAT"] = "RGB"

    wanted = references["g"]
    same(*records(make(rgb), wanted["image_rgb"][:, :, ::-1]), wanted)


def test_a_mask_configuration_gives_the_same_records(make, references):
    def masks(data: dict[str, Any]) -> None:
        data["MODEL"]["MASK_ON"] = True

    same(*records(make(masks), references["g"]["image_rgb"]), references["g"])


def test_rows_stay_together_where_detectron2_drops_detections_without_area(make, shared):
    """Under these weights the picture has two detections of width 0, the most confident one among them."""
    extractor = make(boxes="1..100")
    pixels = decode((shared / "images/208_495.jpg").read_bytes(), Policy())
    (record,) = records(extractor, pixels)
    given = {"image": extractor.prepare(Picture("p", pixels)).pixels, "height": record.size[0], "width": record.size[1]}
    with torch.inference_mode():
        (raw,) = extractor.model.inference([given], do_postprocess=False)
        wanted = extractor.model([given])[0]["instances"]
        logits, _ = extractor.model.roi_heads.box_predictor(torch.from_numpy(record.features))
    assert len(wanted) < len(raw)
    np.testing.assert_array_equal(record.object_ids, wanted.pred_classes)
    np.testing.assert_allclose(record.boxes, wanted.pred_boxes.tensor, rtol=0, atol=PIXELS)
    confs = logits.softmax(-1).numpy()[np.arange(len(record)), record.object_ids]  # of each row's own feature
    np.testing.assert_allclose(record.object_confs, confs, rtol=0, atol=PROBS)


# -- how many boxes ---------------------------------------------------------------------------------------------------


def test_fewer_boxes_are_the_best_ones(make, references):
    extractor = make(boxes="10")
    assert extractor.schema.rows == 10
    same(*records(extractor, references["h"]["image_rgb"]), references["h"], 10)


def test_a_fixed_number_of_boxes_is_padded_with_zeros_and_counted(make, references):
    wanted = references["h"]
    threshold = float(wanted["out_scores"][4:6].mean())
    extractor = make(boxes="36", score_threshold=threshold)
    (record,) = records(extractor, wanted["image_rgb"])
    same(record, wanted, 5)
    assert all(len(record.array(name)) == 36 and not record.array(name)[5:].any() for name in record.names())
    assert [f"above {threshold:g}" in note and "fewer than 36" in note for note in extractor.notes()] == [True]


def test_an_adaptive_number_of_boxes_may_be_none(make, references):
    extractor = make(boxes="1..100", score_threshold=1.0)
    (record,) = records(extractor, references["f"]["image_rgb"])
    assert (len(record), record.features.shape, extractor.notes()) == (0, (0, 256), [])


def test_bfloat16_features_are_rounded_float32_features(make, references):
    (exact,) = records(make(), references["f"]["image_rgb"])
    (coarse,) = records(make(dtype="bfloat16"), references["f"]["image_rgb"])
    np.testing.assert_array_equal(coarse.features, torch.from_numpy(exact.features).bfloat16().float().numpy())


def test_a_picture_whose_short_side_vanishes_is_refused(make):
    with pytest.raises(PictureRefused) as caught:
        make().prepare(Picture("thin", np.zeros((1, 5000, 3), np.uint8)))
    assert caught.value.reason == "too-thin"


# -- weights ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def arrays(folder: Path) -> Arrays:
    return load_file(folder / "weights.safetensors")


def zoo_file(path: Path, arrays: Arrays) -> str:
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}, 2))
    return str(path)


def test_a_model_zoo_pickle_and_a_training_checkpoint_give_the_same_records(make, references, arrays, tmp_path):
    zeros = np.zeros((3, 1, 1), np.float32)  # old files carry what the configuration decides, and masks are not for us
    old = {**arrays, "pixel_mean": zeros, "roi_heads.mask_head.predictor.weight": zeros}
    torch.save({"model": {n: torch.from_numpy(a) for n, a in arrays.items()}, "iteration": 9}, tmp_path / "m.pth")
    for weights in (zoo_file(tmp_path / "m.pkl", old), str(tmp_path / "m.pth")):
        same(*records(make(weights=weights), references["f"]["image_rgb"]), references["f"])


def test_a_pickle_that_asks_for_code_is_refused_and_not_run(make, tmp_path):
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"model": {"a": Trap()}}))
    with pytest.raises(WeightsError, match="refused"):
        make(weights=str(tmp_path / "m.pkl"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.pop(CLASSES), f"{CLASSES} is absent"),
        (lambda a: a.update({CLASSES: a[CLASSES][:-1]}), rf"{CLASSES} is \[60, 256\], expected \[61, 256\]"),
        (lambda a: a.update(surplus=a[CLASSES]), r"surplus is \[61, 256\], expected absent"),
        (lambda a: a.update({ANCHORS: np.ones((15, 4), np.float32)}), "other anchors"),
        (lambda a: a[CLASSES].fill(np.nan), "NaN"),
    ],
    ids=["missing", "other shape", "surplus", "other anchors", "not finite"],
)
def test_weights_of_another_network_are_refused(make, arrays, tmp_path, change, said):
    change(arrays)
    with pytest.raises(WeightsError, match=said):
        make(weights=zoo_file(tmp_path / "m.pkl", arrays))


def test_weights_that_overflow_are_reported(make, references, arrays, tmp_path):
    arrays[CLASSES].fill(3e38)
    extractor = make(weights=zoo_file(tmp_path / "m.pkl", arrays))
    with pytest.raises(WeightsError, match="NaN or infinity"):
        records(extractor, references["f"]["image_rgb"])


def test_weights_are_needed_and_their_hash_is_checked(make):
    with pytest.raises(WeightsError, match="no weights"):
        make(weights=None)
    with pytest.raises(WeightsError, match="sha256"):
        make(expect_sha256="0" * 64)


# -- configurations ---------------------------------------------------------------------------------------------------


def test_every_c4_configuration_of_the_zoo_is_accepted_and_no_other(installed):
    import detectron2

    zoo = Path(detectron2.__file__).parent / "model_zoo/configs"
    names = {str(path.relative_to(zoo)) for path in zoo.glob("*/*.yaml")}
    wanted = {name for name in names if "_C4" in name and "/rpn_" not in name}  # a proposal network has no regions
    assert {f"COCO-Detection/faster_rcnn_R_{d}_C4_3x.yaml" for d in (50, 101)} < wanted
    assert {name for name in names if accepted(f"model_zoo:{name}")} == wanted


def accepted(d2_config: str) -> bool:
    try:
        return bool(read_config(Detectron2Config(d2_config)))
    except UsageError:
        return False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NO_SUCH_SECTION: 1", "NO_SUCH_SECTION"),
        ("a list", "no plain detectron2"),
        ("INPUT: {FORMAT: L}\nMODEL: {ROI_HEADS: {NAME: Res5ROIHeads}}", "INPUT.FORMAT 'L'"),
        ("MODEL: {ROI_HEADS: {NAME: Res5ROIHeads}, META_ARCHITECTURE: RetinaNet}", "META_ARCHITECTURE 'RetinaNet'"),
        ("MODEL: !!python/object/apply:os.mkdir [ran]", "os.mkdir"),
    ],
)
def test_a_configuration_that_is_none_is_refused_and_never_run(installed, tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(f"VERSION: 2\n{text}\n")
    with pytest.raises(UsageError, match=said):
        read_config(Detectron2Config("bad.yaml"))
    assert not Path("ran").exists()


def test_an_absent_configuration_is_named(installed):
    with pytest.raises(UsageError, match=r"configs/COCO-Detection/nothing\.yaml"):
        read_config(Detectron2Config("model_zoo:COCO-Detection/nothing.yaml"))


@pytest.mark.parametrize("option", [{"score_threshold": "high"}, {"boxes": "many"}, {"boxes": 0}])
def test_an_option_that_is_no_number_is_named(installed, option):
    with pytest.raises(UsageError, match=next(iter(option))):
        read_config(Detectron2Config(**option))


def test_provenance_names_version_configuration_and_weights(make, folder):
    import detectron2

    one, two = make(), make(score_threshold=0.2)
    found = one.provenance()
    assert found["detectron2"] == detectron2.__version__
    assert found["weights"]["sha256"] == hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    assert found["config"]["sha256"] != two.provenance()["config"]["sha256"]
    assert found == make().provenance()
    cpu, gpu = (read_config(replace(one.config, device=device)).dump() for device in ("cpu", "cuda"))
    assert cpu == gpu  # a device does not decide the features


def test_labels_are_those_of_the_data_set_when_their_number_fits(make, tmp_path):
    def coco(data: dict[str, Any]) -> None:
        data["DATASETS"] = {"TEST": ["coco_2017_val"]}

    def coco_80(data: dict[str, Any]) -> None:
        coco(data)
        data["MODEL"]["ROI_HEADS"]["NUM_CLASSES"] = 80

    sixty = make(coco)
    assert sixty.labels == {"objects": None}
    state = dict(sixty.model.state_dict())
    for name, rows in (("cls_score", 81), ("bbox_pred", 320)):
        state[f"roi_heads.box_predictor.{name}.weight"] = torch.zeros(rows, 256)
        state[f"roi_heads.box_predictor.{name}.bias"] = torch.zeros(rows)
    torch.save(state, tmp_path / "coco.pth")
    names = make(coco_80, weights=str(tmp_path / "coco.pth")).labels["objects"]
    assert (len(names), names[0], names[-1]) == (80, "person", "toothbrush")


def test_the_command_writes_a_store(make, references, folder, tmp_path, capsys):
    extractor, photos = make(dtype="float16"), tmp_path / "photos"
    photos.mkdir()
    for name in "fgh":
        (photos / f"{name}.png").write_bytes((folder / f"image_{name}.png").read_bytes())
    config = {"extractor": "detectron2", "d2_config": extractor.config.d2_config, "batch": 2, "dtype": "float16"}
    (tmp_path / "featx.yaml").write_text(yaml.safe_dump(config))
    command = ["extract", str(photos), str(tmp_path / "store"), "--config", str(tmp_path / "featx.yaml"), "--quiet"]
    assert main([*command, "--weights", str(folder / "weights.safetensors")]) == 0, capsys.readouterr().err
    with open_store(tmp_path / "store") as store:
        assert store.manifest.provenance.items() >= extractor.provenance().items()
        for name, wanted in references.items():
            record = store[name]
            np.testing.assert_array_equal(record.object_ids, wanted["out_classes"])
            np.testing.assert_allclose(record.boxes, wanted["out_boxes"], rtol=0, atol=PIXELS)
            features = wanted["feature_pooled"][wanted["det_ids"]]
            np.testing.assert_allclose(record.features, features, rtol=2**-11, atol=FEATURES)


# -- without detectron2 -----------------------------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """detectron2 cannot be imported, wherever this runs."""
    for name in ("detectron2", "detectron2.data", "detectron2.modeling"):
        monkeypatch.setitem(sys.modules, name, None)


def test_the_module_is_imported_without_detectron2():
    program = "import sys, featx_extractors.detectron2; sys.exit('detectron2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.usefixtures("without")
def test_building_it_says_how_to_get_detectron2():
    with pytest.raises(MissingDependency) as caught:
        Detectron2(weights="any.pkl")
    assert "detectron2" in caught.value.message
    assert caught.value.hint == HINT


def test_a_missing_dependency_of_detectron2_is_named(monkeypatch):
    def load(name: str, *args: Any) -> Any:
        if name.startswith("detectron2"):
            raise ModuleNotFoundError("No module named 'fvcore'", name="fvcore.common")
        return original(name, *args)

    original = __import__
    monkeypatch.setattr("builtins.__import__", load)
    with pytest.raises(MissingDependency, match="fvcore") as caught:
        Detectron2.check_available()
    assert caught.value.hint == "pip install fvcore"


@pytest.mark.usefixtures("without")
def test_the_command_exits_with_5_and_writes_nothing(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(b"never read")
    assert main(["extract", str(tmp_path / "photos"), str(tmp_path / "store"), "--extractor", "detectron2"]) == 5
    assert HINT in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "store").exists()


@pytest.mark.usefixtures("without")
def test_the_list_of_plugins_says_what_is_missing():
    (plugin,) = (p for p in survey() if p.name == "detectron2")
    assert HINT in plugin.problem


def test_a_profile_is_no_option_because_the_configuration_decides():
    with pytest.raises(UsageError, match="'profile'"):
        Detectron2.from_options({"profile": "caffe-36"})
