"""BLEU of captions, language by language."""

from __future__ import annotations

from collections.abc import Sequence

from featx.metrics.captions import caption_scores
from featx.tasks.captions.examples import Described


def bleu_of(examples: Sequence[Described], written: Sequence[str], tokenize: str = "13a") -> dict[str, float]:
    """``bleu4``, the mean over the languages, then BLEU-1 to BLEU-4 of each: ``bleu4 fr``; from 0 to 1."""
    found: dict[str, float] = {}
    for language in dict.fromkeys(one.language for one in examples):
        rows = [(text, one.texts) for one, text in zip(examples, written, strict=True) if one.language == language]
        scores = caption_scores([text for text, _ in rows], [texts for _, texts in rows], tokenize)
        found |= {f"{name} {language}": score for name, score in scores.items()}
    whole = [score for name, score in found.items() if name.startswith("bleu4")]
    return {"bleu4": sum(whole) / len(whole) if whole else 0.0, **found}
