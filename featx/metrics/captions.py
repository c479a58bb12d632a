"""What is reported of captions: BLEU of one to four words, of a whole split in one language."""

from __future__ import annotations

from collections.abc import Sequence

from featx.metrics.bleu import corpus_bleu

ORDERS = (1, 2, 3, 4)


def caption_scores(
    written: Sequence[str], references: Sequence[Sequence[str]], tokenize: str = "13a"
) -> dict[str, float]:
    """``bleu1`` to ``bleu4``, from 0 to 1, without smoothing; ``references[i]`` is all that is said about a picture.

    Of any number, at least one: a picture that has fewer than another counts its first one again, which changes
    nothing. (Figures published with the captioning model are means over pieces of 512 captions, with one reference
    each.) Raises UsageError for unequal numbers of captions and pictures.
    """
    most = max(map(len, references), default=0)
    filled = [[*said, *[said[0]] * (most - len(said))] if said else [] for said in references]
    return {
        f"bleu{order}": corpus_bleu(written, filled, order=order, tokenize=tokenize).score / 100 for order in ORDERS
    }
