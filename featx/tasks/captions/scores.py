"""BLEU of captions, language by language."""

from __future__ import annotations

from collections.abc import Sequence

from featx.metrics.bleu import corpus_bleu
from featx.tasks.captions.examples import Described

ORDERS = (1, 2, 3, 4)


def bleu_of(examples: Sequence[Described], written: Sequence[str], tokenize: str = "13a") -> dict[str, float]:
    """``bleu4``, the mean over the languages, then BLEU-1 to BLEU-4 of each: ``bleu4 fr``; from 0 to 1.

    Of the whole corpus, without smoothing, against all that is said about a picture. (The published figures are means
    over pieces of 512 captions with one reference each.)
    """
    found: dict[str, float] = {}
    for language in dict.fromkeys(one.language for one in examples):
        rows = [(one, text) for one, text in zip(examples, written, strict=True) if one.language == language]
        most = max(len(one.texts) for one, _ in rows)
        references = [(*one.texts, *[one.text] * (most - len(one.texts))) for one, _ in rows]  # a repetition adds none
        hypotheses = [text for _, text in rows]
        for order in ORDERS:
            score = corpus_bleu(hypotheses, references, order=order, tokenize=tokenize).score
            found[f"bleu{order} {language}"] = score / 100
    whole = [score for name, score in found.items() if name.startswith("bleu4")]
    return {"bleu4": sum(whole) / len(whole) if whole else 0.0, **found}
