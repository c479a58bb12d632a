"""Which parameters weight decay acts on."""

from __future__ import annotations

from torch import nn

from featx.task import Group


def decay_groups(model: nn.Module, decay: str) -> list[Group]:
    """``all``: every parameter, as airsplay/lxmert trains. ``usual``: not biases and LayerNorm, as BERT was trained."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if decay == "all":
        return [Group([p for _, p in named], names=[name for name, _ in named])]
    free = {id(p) for m in model.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    free |= {id(p) for name, p in named if name.endswith("bias")}
    sides = [[(name, p) for name, p in named if (id(p) in free) is bare] for bare in (False, True)]
    return [
        Group([p for _, p in side], decay=not bare, names=[name for name, _ in side])
        for bare, side in zip((False, True), sides, strict=True)
    ]
