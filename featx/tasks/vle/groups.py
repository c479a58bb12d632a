"""Learning rates and weight decay by names of parameters."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from featx.errors import UsageError
from featx.task import Group

# iflytek/VLE, vqav2_train_module.py: parameters with one of these in their name. `norm.weight` is the tower's last one.
_PUBLISHED = ("bias", "LayerNorm.weight", "norm.weight", "norm1.weight", "norm2.weight")


def groups_of(model: nn.Module, rates: Mapping[str, float], decay: str) -> list[Group]:
    """Every trainable parameter in one group; its rate is that of the first part in ``rates`` that is in its name.

    decay: see :class:`featx.tasks.vle.options.TaskOptions`. Raises UsageError for a part that is in no name.
    """
    if unknown := [part for part in rates if not any(part in name for name, _ in model.named_parameters())]:
        parts = dict.fromkeys(".".join(name.split(".")[:2]) for name, _ in model.named_parameters())
        raise UsageError(
            f"rates names {', '.join(unknown)}, which is in no parameter's name",
            f"give parts of names such as {', '.join(parts)}",
        )
    norms = {id(p) for m in model.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()}
    found: dict[tuple[float, bool], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = next((rate for part, rate in rates.items() if part in name), 1.0)
        free = {
            "all": False,
            "usual": name.endswith("bias") or id(parameter) in norms,
            "published": any(part in name for part in _PUBLISHED),
        }[decay]
        found.setdefault((float(rate), not free), []).append((name, parameter))
    return [
        Group([p for _, p in members], rate, decays, [name for name, _ in members])
        for (rate, decays), members in found.items()
    ]
