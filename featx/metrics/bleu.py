"""BLEU of captions, by sacrebleu (an optional package)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featx.errors import MissingDependency, UsageError


@dataclass(frozen=True)
class Bleu:
    """score: 0 to 100; precisions: percent, for n-grams of 1, 2, ... words; signature: how it was computed."""

    score: float
    counts: tuple[int, ...]
    totals: tuple[int, ...]
    precisions: tuple[float, ...]
    brevity_penalty: float
    hypothesis_length: int
    reference_length: int
    signature: str


def corpus_bleu(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, order: int = 4, tokenize: str = "13a",
    lowercase: bool = False, smooth: str = "none", smooth_value: float | None = None,
) -> Bleu:  # fmt: skip
    """BLEU-``order`` of a corpus; ``references[i]`` are those of ``hypotheses[i]``, equally many for each.

    Without smoothing, as captioning reports it; ``smooth``, ``smooth_value`` and ``tokenize`` are sacrebleu's.
    ``tokenize="none"`` splits at spaces, for text whose words are separated already. Raises UsageError for unequal
    numbers.
    """
    counts = {len(r) for r in references}
    if len(hypotheses) != len(references) or len(counts) != 1 or 0 in counts:
        raise UsageError(
            f"{len(hypotheses)} captions have {len(references)} lists of {sorted(counts)} references",
            "give each caption the same number of references, at least one",
        )
    metric = _metric(order, tokenize, lowercase, smooth, smooth_value)
    return _result(
        metric, metric.corpus_score(list(hypotheses), [list(stream) for stream in zip(*references, strict=True)])
    )


def sentence_bleu(hypothesis: str, references: Sequence[str], *, order: int = 4, tokenize: str = "13a") -> Bleu:
    """BLEU of one caption, smoothed exponentially and over the n-grams it is long enough for (sacrebleu's defaults)."""
    metric = _metric(order, tokenize, effective_order=True)
    return _result(metric, metric.sentence_score(hypothesis, list(references)))


def tokens(text: str, tokenize: str = "13a") -> list[str]:
    """The words that BLEU counts."""
    split: str = _metric(1, tokenize).tokenizer(text.rstrip())
    return split.split()


def _metric(
    order: int, tokenize: str, lowercase: bool = False, smooth: str = "exp", smooth_value: float | None = None, *,
    effective_order: bool = False,
) -> Any:  # fmt: skip
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise MissingDependency("BLEU needs the package sacrebleu", "pip install sacrebleu") from None
    return BLEU(
        lowercase=lowercase, force=True, tokenize=tokenize, smooth_method=smooth, smooth_value=smooth_value,
        max_ngram_order=order, effective_order=effective_order,
    )  # fmt: skip


def _result(metric: Any, found: Any) -> Bleu:
    return Bleu(
        float(found.score), tuple(found.counts), tuple(found.totals), tuple(found.precisions), float(found.bp),
        int(found.sys_len), int(found.ref_len), str(metric.get_signature()),
    )  # fmt: skip
