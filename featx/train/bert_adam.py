"""BertAdam: the optimiser that BERT was published with, and LXMERT after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class BertAdam(torch.optim.Optimizer):
    """Adam without bias correction, with decoupled weight decay.

    With gradient ``g``, parameter ``p`` and rate ``lr``, all elementwise::

        m <- b1 m + (1 - b1) g
        v <- b2 v + (1 - b2) g^2
        p <- p - lr (m / (sqrt(v) + eps) + weight_decay p)

    Without the correction the first steps are larger than AdamW's by up to ``(1 - b1) / sqrt(1 - b2)``, about 3, which
    the warm-up hides. The rate and the clipping of gradients are the loop's. Source: ``AdamWeightDecayOptimizer`` of
    google-research/bert; ``BertAdam`` of airsplay/lxmert.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        state, (b1, b2) = self.state[parameter], group["betas"]
        if not state:
            state["mean"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["square"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        state["mean"].mul_(b1).add_(parameter.grad, alpha=1 - b1)
        state["square"].mul_(b2).addcmul_(parameter.grad, parameter.grad, value=1 - b2)
        update = state["mean"] / state["square"].sqrt().add_(group["eps"])
        parameter.sub_(update.add_(parameter, alpha=group["weight_decay"]).mul_(group["lr"]))
