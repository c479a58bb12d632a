"""Names of parameters: those of airsplay/lxmert, and those of transformers, which featx uses.

The sub-modules are called alike in both; what differs is where they hang. Snapshots made under DataParallel begin
every name with ``module.``. The pre-training network calls its trunk ``bert``, the question answering networks (VQA,
GQA) ``lxrt_encoder.model.bert``, or ``lxrt_encoder.model.module.bert`` when trained with ``--multiGPU``, and their
answer head ``logit_fc``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

from featx.errors import WeightsError

T = TypeVar("T")
Layout = Literal["pretrain", "answer"]

# (original, transformers), tried in turn
_PREFIXES = (
    ("lxrt_encoder.model.bert.", "lxmert."),
    ("lxrt_encoder.model.module.bert.", "lxmert."),
    ("bert.", "lxmert."),
    ("logit_fc.", "answer_head.logit_fc."),
    # a trunk saved by itself
    ("embeddings.", "lxmert.embeddings."),
    ("encoder.", "lxmert.encoder."),
    ("pooler.", "lxmert.pooler."),
)


def transformers_name(name: str) -> str:
    """``module.bert.pooler.dense.bias`` -> ``lxmert.pooler.dense.bias``; a name of transformers stays."""
    name = name.removeprefix("module.")
    for original, ours in _PREFIXES:
        if name.startswith(original):
            return ours + name.removeprefix(original)
    return name


def original_name(name: str, layout: Layout) -> str:
    """The inverse, as airsplay/lxmert saves a ``pretrain`` snapshot or an ``answer`` (VQA, GQA) one."""
    if layout == "pretrain":
        return "module." + ("bert." + name.removeprefix("lxmert.") if name.startswith("lxmert.") else name)
    if name.startswith("lxmert."):
        return "lxrt_encoder.model.bert." + name.removeprefix("lxmert.")
    return name.removeprefix("answer_head.")


def rename(tensors: Mapping[str, T], where: str) -> dict[str, T]:
    """All under the names of transformers. Raises WeightsError when two become one."""
    renamed: dict[str, T] = {}
    for name, value in tensors.items():
        new = transformers_name(name)
        if new in renamed:
            raise WeightsError(f"{where} holds {new} twice, once as {name}", "give a snapshot of one model")
        renamed[new] = value
    return renamed
