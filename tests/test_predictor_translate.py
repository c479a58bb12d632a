"""Translators: a dictionary, and models of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from featx.errors import UsageError, WeightsError
from featx.translate import MARIAN, Dictionary, Marian

ENTRIES = {"ko>en": {"무슨 색입니까?": "What colour is it?"}, "en>ko": {"red": "빨강", "yes": "예"}}


def test_a_dictionary_translates_whole_texts_and_leaves_the_rest() -> None:
    words = Dictionary(ENTRIES)
    assert words.translate(["  무슨   색입니까? "], "ko", "en") == ["What colour is it?"]
    assert words.translate(["Red", "purple", "yes"], "en", "ko") == ["빨강", "purple", "예"]
    with pytest.raises(UsageError, match="no en>fr"):
        words.translate(["red"], "en", "fr")


def test_a_dictionary_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps(ENTRIES), encoding="utf-8")
    assert Dictionary.read(path).translate(["red"], "en", "ko") == ["빨강"]
    for text in ("", "[1]", '{"en>ko": 3}'):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"d\.json cannot be read"):
            Dictionary.read(path)
    with pytest.raises(UsageError, match="nothing"):
        Dictionary.read(tmp_path / "nothing.json")


@pytest.fixture
def seq2seq(tmp_path: Path) -> Path:
    """A random translation model of three layers' worth, with a vocabulary of letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

    names = ["<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz?"]
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=20
    )
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(names), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=80, init_std=0.8,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=1,
    )  # fmt: skip
    folder = tmp_path / "fr-en"
    MarianMTModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_translation_model_is_asked_as_transformers_would_be(seq2seq: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    texts = ["what is it?", "a"]
    tokenizer, model = AutoTokenizer.from_pretrained(seq2seq), AutoModelForSeq2SeqLM.from_pretrained(seq2seq)
    wanted = []
    for text in texts:
        ids = tokenizer([text], return_tensors="pt")
        out = model.generate(input_ids=ids.input_ids, attention_mask=ids.attention_mask, num_beams=4, max_new_tokens=64)
        wanted.append(tokenizer.decode(out[0], skip_special_tokens=True).strip())
    found = Marian({"fr>en": str(seq2seq)}).translate(texts, "fr", "en")
    assert found == wanted
    assert Marian().translate([], "fr", "en") == []


def test_a_direction_without_a_model_uses_the_published_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import featx.translate as module

    asked: list[str] = []

    def refuse(name: str, device: str) -> Any:
        asked.append(name)
        raise WeightsError("offline")

    monkeypatch.setattr(module, "_load", refuse)
    with pytest.raises(WeightsError):
        Marian({"ko>en": "mine"}).translate(["x"], "ko", "en")
    with pytest.raises(WeightsError):
        Marian({"ko>en": "mine"}).translate(["x"], "de", "en")
    assert asked == ["mine", "Helsinki-NLP/opus-mt-de-en"]
    assert MARIAN.format(source="en", target="fr") == "Helsinki-NLP/opus-mt-en-fr"


def test_a_model_that_cannot_be_found_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be loaded"):
        Marian({"fr>en": str(tmp_path / "nothing")}).translate(["x"], "fr", "en")
