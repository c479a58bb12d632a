"""Which candidates learn what: IoU limits, best anchors, and the balance of a sample."""

from __future__ import annotations

import torch

from featx_extractors.training.matching import match, sample

BOXES = torch.tensor([[0.0, 0, 10, 10], [100, 100, 140, 140]])
# IoU with the first box: 1, 0.8, 0.5, 0.2; with the second: 0.25 (a quarter of it); with none: 0.
CANDIDATES = torch.tensor(
    [[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5], [0, 0, 10, 2], [100, 100, 120, 120], [50, 50, 60, 60]]
)


def test_overlap_decides_between_object_background_and_neither() -> None:
    labels, targets = match(CANDIDATES, BOXES, positive=0.7, negative=0.3)
    assert labels.tolist() == [1, 1, -1, 0, 0, 0]
    assert targets.tolist()[:5] == [0, 0, 0, 0, 1]


def test_no_box_goes_unlearnt() -> None:
    labels, _ = match(CANDIDATES, BOXES, positive=0.7, negative=0.3, best_too=True)
    assert labels.tolist() == [1, 1, -1, 0, 1, 0]
    # A box that nothing overlaps makes no object of what is far away.
    labels, _ = match(CANDIDATES, torch.tensor([[300.0, 300, 310, 310]]), positive=0.7, negative=0.3, best_too=True)
    assert labels.tolist() == [0] * 6


def test_a_limit_itself_is_an_object() -> None:
    labels, _ = match(CANDIDATES, BOXES, positive=0.5, negative=0.5)
    assert labels.tolist() == [1, 1, 1, 0, 0, 0]


def test_a_picture_without_boxes_is_all_background() -> None:
    labels, _ = match(CANDIDATES, torch.zeros(0, 4), positive=0.7, negative=0.3, best_too=True)
    assert labels.tolist() == [0] * 6


def test_a_sample_is_balanced_and_full() -> None:
    labels = torch.tensor([1] * 30 + [0] * 200 + [-1] * 50)
    objects, background = sample(labels, 64, 0.25)
    assert (len(objects), len(background)) == (16, 48)
    assert (labels[objects] == 1).all()
    assert (labels[background] == 0).all()
    assert len(set(objects.tolist())) == 16
    few, rest = sample(torch.tensor([1, 0, 0, -1]), 64, 0.25)
    assert (few.tolist(), sorted(rest.tolist())) == ([0], [1, 2])


def test_samples_follow_the_global_generator() -> None:
    labels = torch.tensor([1, 0] * 100)
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append(torch.cat(sample(labels, 32, 0.5)).tolist())
    assert drawn[0] == drawn[1] != drawn[2]
