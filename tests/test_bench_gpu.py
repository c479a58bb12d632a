"""The bench of a GPU, as far as a machine without one can tell: it runs, counts right, and says what is missing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import __main__ as benchmarks
from benchmarks import gpu, precision
from benchmarks.device import covered, matrix_rates, waits, watched
from benchmarks.operations import operations
from featx_extractors.network import Network
from featx_extractors.profiles import PROFILES
from featx_extractors.weights import load_weights


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_how_to_try_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DRY", raising=False)
    monkeypatch.setattr("sys.argv", ["benchmarks", "gpu"])
    with pytest.raises(SystemExit) as stop:
        benchmarks.main()
    assert stop.value.code == 5
    told = capsys.readouterr().err
    assert "finds no GPU" in told
    assert "DRY=1" in told


def test_dry_it_goes_all_the_way_and_saves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRY", "1")
    monkeypatch.setattr(gpu, "dry", lambda: replace(DRY, pictures=3, batches=[2], precisions=["float32"]))
    monkeypatch.setattr(gpu, "save", lambda *a: pytest.fail("a dry run was saved"))
    gpu.main()
    said = capsys.readouterr().out
    assert "dry; boxes shared with the peers' loop: 36 of 36" in said
    rows = [line.split() for line in said.splitlines()]
    assert [row[:3] for row in rows if row[:1] == ["float32"]] == [["float32", "eager", "2"]]
    names = {row[0] for row in rows if row}
    assert {"roi_pool", "add_bias", "nms_padded", "select_boxes_padded"} <= names


DRY = gpu.dry()


def test_a_batch_is_read_after_the_next_was_begun_and_none_is_lost() -> None:
    told: list[str] = []

    class Recorder:
        def begin(self, group: list[int]) -> Any:
            told.append(f"begin {group}")
            return lambda: told.append(f"read {group}") or list(group)  # type: ignore[func-returns-value]

    assert gpu.run_batches(Recorder(), [1, 2, 3, 4, 5], 2) == 5  # type: ignore[arg-type, list-item]
    assert told == ["begin [1, 2]", "begin [3, 4]", "read [1, 2]", "begin [5]", "read [3, 4]", "read [5]"]


def test_pictures_come_in_order_however_many_are_decoded_ahead() -> None:
    frcnn = DRY.extractor("float32")
    files = gpu.photos(3)
    for places in (1, 10):
        found = [one.pixels for one in gpu.ahead(frcnn, files, 2, places)]
        assert all(torch.equal(a, gpu.prepared(frcnn, f).pixels) for a, f in zip(found, files, strict=True))


@pytest.mark.parametrize(
    ("intervals", "union", "span"),
    [([], 0, 0), ([(1, 3)], 2, 2), ([(5, 9), (1, 3)], 6, 8), ([(0, 4), (1, 2), (3, 6), (10, 11)], 7, 11)],
)
def test_time_is_busy_once_however_many_kernels_share_it(intervals: Any, union: float, span: float) -> None:
    assert covered(intervals) == (union, span)


@pytest.mark.parametrize("profile", ["hf-demo-fixed", "detectron2-c4"])
def test_operations_are_those_that_torch_counts(profile: str) -> None:
    chosen = PROFILES[profile]
    network = Network(load_weights("seeded-tiny").tensors, chosen)
    size, regions = (97, 130), 3
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:  # plain convolutions, which torch can count
        res4 = network.trunk(torch.zeros(1, 3, *size))
        network.proposal_head(res4)
        pooled = torch.zeros(regions, res4.shape[1], chosen.resolution, chosen.resolution)
        network.predictor(network.res5(pooled))
    assert sum(operations(network, size, regions, chosen.resolution).values()) == counter.get_total_flops()


def test_errors_of_several_pictures_are_the_worst_and_the_mean_by_region() -> None:
    one = {"regions": 3, "largest_error": 0.2, "mean_error": 0.01, "mean_feature": 1.0, "least_cosine": 0.999,
           "largest_confidence_error": 0.5, "same_object_id": 1.0}  # fmt: skip
    other = {"regions": 1, "largest_error": 0.4, "mean_error": 0.05, "mean_feature": 2.0, "least_cosine": 0.99,
             "largest_confidence_error": 0.1, "same_object_id": 0.0}  # fmt: skip
    found = precision.combined([one, other])
    assert found == {"regions": 4, "largest_error": 0.4, "mean_error": pytest.approx(0.02), "mean_feature": 1.25,
                     "least_cosine": 0.99, "largest_confidence_error": 0.5, "same_object_id": 0.75}  # fmt: skip
    assert precision.possible("cpu") == ["bfloat16"]


def test_what_only_a_gpu_has_is_not_made_up() -> None:
    cpu = torch.device("cpu")
    assert math.isnan(watched(lambda: None, cpu)["idle"])
    assert waits(lambda: None, cpu) is None
    assert matrix_rates(cpu, ["float32"], 64)["float32"] > 0


def test_a_launch_that_cannot_be_had_is_a_line_of_the_table() -> None:
    row = gpu.line({"precision": "float16", "launch": "compile", "failed": "no Triton"})
    assert len(row) == 11
    assert "no Triton" in row[3]
