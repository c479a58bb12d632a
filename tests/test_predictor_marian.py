"""A MarianMT model small enough for a test, trained on five sentences, on either side of a question."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
import transformers

from featx.cli import main
from featx.predictor import Predictor
from featx.translate import Marian
from tests import lxmert_toys as toys
from tests.test_predictor import TEXTS, WANTS, save

ENGLISH = {"Quelle couleur a le cube ?": TEXTS[0]}
FRENCH = {"red": "rouge", "blue": "bleu", "2": "deux", "yes": "oui"}


def make_marian(folder: Path, pairs: dict[str, str]) -> Path:
    """A folder such as OPUS-MT's, with a real SentencePiece vocabulary, that knows these translations by heart."""
    import sentencepiece

    folder.mkdir()
    spoken = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*pairs, *pairs.values()]), model_writer=spoken, model_type="char", vocab_size=60,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(spoken.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=spoken.getvalue())
    names = ["</s>", "<unk>", *sorted({pieces.id_to_piece(i) for i in range(3, len(pieces))}), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    tokenizer = transformers.MarianTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    pad = len(names) - 1
    config = transformers.MarianConfig(
        vocab_size=len(names), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=80, dropout=0.0,
        pad_token_id=pad, eos_token_id=0, decoder_start_token_id=pad, forced_eos_token_id=0, scale_embedding=True,
    )  # fmt: skip
    model = transformers.MarianMTModel(config).train()
    batch = tokenizer(list(pairs), text_target=list(pairs.values()), return_tensors="pt", padding=True)
    labels = batch["labels"].masked_fill(batch["labels"] == pad, -100)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimiser.zero_grad()
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marian")
    toys.make_store(folder / "store")
    save(folder / "model", {"loss": "ce", "wants": WANTS})
    make_marian(folder / "fr-en", ENGLISH)
    make_marian(folder / "en-fr", FRENCH)
    (folder / "c.yaml").write_text(
        "models: {it: {model: model}}\ntranslators: {fr: {question: fr-en, answer: en-fr}}\n"
    )
    return folder


@pytest.mark.parametrize("how", ["--config=c.yaml", "--translator=fr-en,en-fr"])
def test_question_and_answers_go_through_the_models_of_their_directions(
    place: Path, how: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    asked = ["ask", "store", "p1", *ENGLISH, "--language", "fr", how]
    assert main([*asked, *([] if "config" in how else ["--model", "model"])]) == 0
    out, err = capfd.readouterr()
    wanted = Predictor("model", "store")("p1", TEXTS[0])
    assert out.splitlines()[0] == f"{next(iter(ENGLISH))}  ({TEXTS[0]})"
    rows = [line.split() for line in out.splitlines()[1:]]
    assert rows == [[f"{a['score']:.2f}", FRENCH[a["answer"]]] for a in wanted]
    assert err == ""  # no bar of another package


def test_progress_bars_are_left_as_they_were_found(place: Path) -> None:
    logging = transformers.utils.logging
    for shown in (True, False):
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
        assert Marian({"en>fr": str(place / "en-fr")}).translate(["red", "yes"], "en", "fr") == ["rouge", "oui"]
        assert logging.is_progress_bar_enabled() is shown
    logging.enable_progress_bar()


def test_the_models_work_on_the_device_of_the_answers(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import featx.translate as module

    seen: list[str] = []
    load = module._load
    monkeypatch.setattr(module, "_load", lambda name, device: seen.append(str(device)) or load(name, device))
    monkeypatch.chdir(place)
    asked = ["ask", "store", "p1", *ENGLISH, "--language", "fr", "--config", "c.yaml", "--device", "cpu:0"]
    assert main(asked) == 0
    assert seen == ["cpu:0"] * 2
