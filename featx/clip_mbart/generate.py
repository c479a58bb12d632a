"""Writing of captions, token by token: greedily, or by a beam search, as transformers' ``generate`` does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from featx.text.library import transformers

Start = Literal["pad", "eos"]


@dataclass(frozen=True)
class Search:
    """How captions are searched.

    beams: 1 is greedy. max_length: tokens with the one it starts from, the language code and ``</s>``. length_penalty:
    the sum of log-probabilities is divided by length ** this. early_stopping: end as soon as there are as many ended
    captions as beams, else when no better one is to be expected. start: the token before the language code, ``eos``
    (mBART's ``decoder_start_token_id``) or ``pad`` (what the published model was trained behind).
    """

    beams: int = 4
    max_length: int = 64
    length_penalty: float = 1.0
    early_stopping: bool = True
    start: Start = "eos"


@dataclass(frozen=True)
class Written:
    """ids ``[B, L]`` with the start token first and padding last; scores ``[B]`` of a beam search, else None.

    A score is the sum of the log-probabilities of the tokens behind the start, divided by their number to the length
    penalty.
    """

    ids: torch.Tensor
    scores: torch.Tensor | None


def start_id(network: Any, start: Start) -> int:
    """The id of the token that stands before the language code."""
    config = network.config
    found = config.pad_token_id if start == "pad" else config.decoder_start_token_id
    return int(config.eos_token_id if found is None else found)


@torch.no_grad()
def write(network: Any, seen: torch.Tensor, mask: torch.Tensor, code: int | None, search: Search) -> Written:
    """A caption for each row of ``seen`` ``[B, N, M]`` (see :func:`featx.clip_mbart.network.encoded`).

    mask: bool ``[B, N]``, the real rows. code: id of the language, which is the first token; None: the network chooses.
    """
    library, config = transformers(), network.config
    settings = library.GenerationConfig(
        max_length=search.max_length, num_beams=search.beams, do_sample=False,
        length_penalty=search.length_penalty if search.beams > 1 else None,
        early_stopping=search.early_stopping if search.beams > 1 else None,
        decoder_start_token_id=start_id(network, search.start), forced_bos_token_id=code,
        bos_token_id=config.bos_token_id, pad_token_id=config.pad_token_id, eos_token_id=config.eos_token_id,
        forced_eos_token_id=config.forced_eos_token_id,
        return_dict_in_generate=True, output_scores=search.beams > 1,
    )  # fmt: skip
    outputs = library.modeling_outputs.BaseModelOutput(last_hidden_state=seen)
    found = network.generate(encoder_outputs=outputs, attention_mask=mask.long(), generation_config=settings)
    return Written(found.sequences, found.sequences_scores if search.beams > 1 else None)
