"""The detector on a GPU that is waited for once in a batch: when its results are read.

Inputs are copied from pinned memory, proposals and selections have fixed lengths, and results are on their way to
the host when the next batch can be begun. The choices are those of ``Detector``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch

from featx_extractors.copies import fetched, pinned, sent
from featx_extractors.detector import Detector, Regions
from featx_extractors.launching import Launch, launched
from featx_extractors.padded import Padded, can_select, candidates_padded, propose_padded, select_padded
from featx_extractors.preprocess import Frame
from featx_extractors.profiles import Profile
from featx_extractors.superset import Marks
from featx_extractors.weights import Weights


@dataclass(frozen=True)
class Waiting:
    """Regions on their way to the host, those of one picture each with the mask ``[n]`` of its real rows, or None."""

    regions: Sequence[tuple[Regions, torch.Tensor | None]]
    done: torch.cuda.Event | None

    def result(self) -> list[Regions]:
        """Wait, and return the regions of each picture."""
        if self.done is not None:
            self.done.synchronize()
        return [_real(regions, mask) for regions, mask in self.regions]


class StreamDetector(Detector):
    """A detector whose host is always ahead of its GPU. On another device it is slower than ``Detector``."""

    def __init__(
        self,
        weights: Weights,
        profile: Profile,
        *,
        device: str = "cuda",
        precision: str = "float32",
        roi_chunk: int | None = None,
        launch: Launch = "eager",
    ) -> None:
        super().__init__(weights, profile, device=device, precision=precision, roi_chunk=roi_chunk)
        self.waits = not can_select(profile)  # the rule's own module then counts, and is waited for
        launched(self.network, self.device, launch)

    def detect(self, inputs: torch.Tensor, frames: Sequence[Frame]) -> list[Regions]:
        """As ``Detector.detect``."""
        return self.begin(inputs.unbind(), frames).result()

    def describe(self, inputs: torch.Tensor, frames: Sequence[Frame], given: Sequence[torch.Tensor]) -> list[Regions]:
        """As ``Detector.describe``."""
        return self.begin(inputs.unbind(), frames, given).result()

    @torch.inference_mode()
    def begin(
        self, inputs: Sequence[torch.Tensor], frames: Sequence[Frame], given: Sequence[torch.Tensor] | None = None
    ) -> Waiting:
        """Begin a batch of inputs ``[3, H, W]`` float32 of one shape, at ``given`` boxes if there are any.

        Inputs in pinned memory (``copies.pinned``) are read where they lie; nothing is waited for.
        """
        with self._current(), self.precision.flags(self.device):
            res4 = self.trunk(self._sent(inputs))
            told = res4.split(1)
            if given is not None:
                found: list[tuple[Regions, torch.Tensor | None]] = [
                    (self._given(one, sent(boxes, self.device), frame), None)
                    for one, boxes, frame in zip(told, given, frames, strict=True)
                ]
            elif self.waits:
                proposed = self.propose(res4, frames)
                found = [(self._regions(*one), None) for one in zip(told, proposed, frames, strict=True)]
            else:
                padded = self._propose_padded(res4, frames)
                found = [self._padded_regions(*one) for one in zip(told, padded, frames, strict=True)]
            return self._on_their_way(found)

    def _current(self) -> AbstractContextManager[None]:
        """Recordings and pinned memory are of the current device, which may be another GPU than ours."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _sent(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """The inputs as one batch ``[B, 3, H, W]`` on the device."""
        batch = torch.empty(len(inputs), *inputs[0].shape, device=self.device)
        for place, pixels in zip(batch, inputs, strict=True):
            place.copy_(pinned(pixels, self.device), non_blocking=self.device.type == "cuda")
        return batch

    def _propose_padded(self, res4: torch.Tensor, frames: Sequence[Frame]) -> list[Padded]:
        logits, deltas = self.network.proposal_head(res4)
        anchors = self.anchors(*res4.shape[2:])
        return [
            propose_padded(lo, de, anchors, frame, self.profile, self.rpn_delta_weights)
            for lo, de, frame in zip(logits, deltas, frames, strict=True)
        ]

    def _padded_regions(
        self, res4: torch.Tensor, proposals: Padded, frame: Frame
    ) -> tuple[Regions, torch.Tensor | None]:
        original = frame.to_original(proposals.boxes)
        regression, predictions = self._look(res4, original, frame)
        marks: Marks = {}
        if self.profile.superset:
            kept, marks, count = candidates_padded(predictions, original, proposals.taking, self.profile)
        else:
            kept, count = select_padded(regression, predictions, original, proposals.taking)
        real = torch.arange(len(kept.rows), device=self.device) < count
        if self.profile.drop_empty and not self.profile.superset:
            boxes = self._regressed(regression, kept)
            real &= ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
        return replace(self._describe(regression, predictions, original, kept), marks=marks), real

    def _on_their_way(self, found: Sequence[tuple[Regions, torch.Tensor | None]]) -> Waiting:
        copied = [(regions.each(fetched), None if mask is None else fetched(mask)) for regions, mask in found]
        if self.device.type != "cuda":
            return Waiting(copied, None)
        done = torch.cuda.Event(blocking=True)  # a host that waits leaves its core to the threads that decode
        done.record(torch.cuda.current_stream(self.device))
        return Waiting(copied, done)


def _real(regions: Regions, mask: torch.Tensor | None) -> Regions:
    """Without the rows that only fill up; what is of the picture as a whole stays."""
    return regions if mask is None else regions.each(lambda values: values[mask] if values.dim() else values)
