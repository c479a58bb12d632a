"""Embeddings of texts: the lists they come from, the numbers; command, resume and parts are those of pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel

import featx
from featx.cli import main
from featx.errors import UsageError, WeightsError
from featx.store import open_store
from featx.text_sources import list_texts, text_key
from featx_extractors.clip import CLIP
from featx_extractors.clip_text import CLIPText
from tests.towers import save_clip

TINY = "seeded-clip-tiny"
QUESTIONS = {
    "questions": [
        {"question_id": i, "image_id": i, "question": text}
        for i, text in enumerate(["What is this?", "Is it red?", "What is this?", "How many cats are there?"])
    ]
}
CAPTIONS = {
    "images": [{"id": 1, "file_name": "a.jpg"}],
    "annotations": [{"id": i, "image_id": 1, "caption": text} for i, text in enumerate(["A cat.", "A dog.", "A cat."])],
}


@pytest.fixture
def questions(tmp_path: Path) -> str:
    (tmp_path / "questions.json").write_text(json.dumps(QUESTIONS))
    return str(tmp_path / "questions.json")


def test_distinct_texts_of_questions_captions_and_lines_are_listed_once_in_order(
    tmp_path: Path, questions: str
) -> None:
    (tmp_path / "captions.json").write_text(json.dumps(CAPTIONS))
    (tmp_path / "lines.txt").write_text("A cat.\n\n  Is it red? \r\nEin Hund.\n", encoding="utf-8")
    found = list_texts([questions, str(tmp_path / "captions.json"), str(tmp_path / "lines.txt"), "-"], stdin=["two\n"])
    keys = ["What is this?", "Is it red?", "How many cats are there?", "A cat.", "A dog.", "Ein Hund.", "two"]
    assert [source.key for source in found] == keys
    assert [source.ordinal for source in found] == list(range(7))
    assert [source.read().decode() for source in found] == keys
    assert found[5].location.endswith("lines.txt:4")
    assert found.skipped == {"blank": 1, "repeated": 4}


def test_captions_of_a_table_are_texts(tmp_path: Path) -> None:
    (tmp_path / "c.tsv").write_text("image_file\tcaption\nx.jpg\tA cat.\ny.jpg\tA dog.\n", encoding="utf-8")
    assert [source.key for source in list_texts(str(tmp_path / "c.tsv"))] == ["A cat.", "A dog."]


def test_a_key_is_one_line_in_its_composed_form() -> None:
    assert text_key(" Cafe\u0301\tor\ntea?\u2028 ") == "Caf\u00e9 or tea?"


@pytest.mark.parametrize(("name", "content"), [("a.txt", "\n\n"), ("a.json", "{}"), ("b.txt", None)])
def test_a_source_without_texts_is_refused(tmp_path: Path, name: str, content: str | None) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError):
        list_texts(str(tmp_path / name))


def test_the_vectors_are_those_of_transformers(tmp_path: Path) -> None:
    """A whole CLIP with a tokenizer that merges, saved by transformers; texts of several lengths, padded by it."""
    model = save_clip(tmp_path / "clip")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path / "clip")
    texts = ["the cat", "a cat on the hat", "the", "that cat that sat on that hat and the cat and the hat and the cat"]
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=20, return_tensors="pt")
    with torch.no_grad():
        expected = model.get_text_features(**inputs).pooler_output.numpy()
    text, whole = CLIPText.from_options({"weights": str(tmp_path / "clip")}), CLIP(weights=str(tmp_path / "clip"))
    np.testing.assert_allclose(text.tower.embed(texts).numpy(), expected, atol=2e-6)
    np.testing.assert_allclose(whole.texts(texts), expected, atol=2e-6)
    assert text.provenance()["weights"]["sha256"] == whole.provenance()["weights"]["sha256"]
    assert len(text.tower.ids(texts[3])) == 20


def test_the_untrained_tokenizer_cuts_words_into_their_bytes() -> None:
    tower = CLIPText(weights=TINY).tower
    letters = sorted(ByteLevel.alphabet())
    assert tower.ids("ab") == (512, letters.index("a"), 256 + letters.index("b"), 513)
    assert tower.ids("A  B") == (512, 256 + letters.index("a"), 256 + letters.index("b"), 513)


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_the_command_extracts_texts_resumes_and_is_found_by_its_key(
    tmp_path: Path, questions: str, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["extract", questions, str(tmp_path / "s"), "--extractor", "clip-text", "--weights", TINY]
    command += ["--backend", backend, "--batch", "8", "--dtype", "float32"]
    assert main([*command, "--dry-run"]) == 0
    estimate = capsys.readouterr().out
    assert "3 texts, 0 of them" in estimate
    assert "3 texts tried" in estimate
    assert main([*command, "--part", "1/2"]) == 0
    assert main([*command, "--part", "2/2"]) == 0
    told = capsys.readouterr()
    assert "text" in told.err
    assert "picture" not in told.err + estimate
    with open_store(tmp_path / "s") as store:
        texts = ["What is this?", "Is it red?", "How many cats are there?"]
        assert sorted(store.keys()) == sorted(texts)
        expected = CLIPText(weights=TINY).tower.embed(texts).numpy()
        found = np.stack([store[text].features[0] for text in texts])
        provenance = store.manifest.provenance
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert (provenance["key_rule"], provenance["profile"]["tensor"]) == ("text", "text")
    assert "decoder" not in provenance
    capsys.readouterr()
    assert main([*command, "--part", "2/2"]) == 0
    assert "nothing to do: all 2 texts" in capsys.readouterr().err
    assert main(["get", str(tmp_path / "s"), texts[0], "--json"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "s")]) == 0
    assert "its features mean nothing" in capsys.readouterr().out
    assert main(["draw", str(tmp_path / "s"), texts[0], "--images", ".", "-o", str(tmp_path / "x.png")]) == 2
    assert "a store of texts, which has no pictures" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "s")]) == 0


def test_the_vector_of_a_text_does_not_depend_on_its_batch() -> None:
    text = CLIPText(weights=TINY)
    texts = ["one cat", "two cats", "six", "a hat", "two bats"]
    prepared = [text.prepare(featx.extractor.Text(key)) for key in texts]
    assert text.group(prepared[0]) != text.group(prepared[1]) == text.group(prepared[4])
    together = text([prepared[1], prepared[4]])
    alone = [text([prepared[1]])[0], text([prepared[4]])[0]]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.features, b.features, atol=1e-6)


def test_options_of_pictures_are_refused_for_texts(tmp_path: Path, questions: str) -> None:
    with pytest.raises(UsageError, match="reads texts"):
        featx.extract(questions, str(tmp_path / "s"), extractor="clip-text", weights=TINY, root="photos")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("vision only", "no text tower"),
        ("no words", "has no tokenizer"),
        ("torn words", "cannot be read"),
        ("a tensor too many", "text_model.surplus"),
        ("words without number", "vocab_size 'x'"),
    ],
)
def test_a_checkpoint_without_texts_is_refused_with_its_reason(tmp_path: Path, spoil: str, said: str) -> None:
    folder = tmp_path / "clip"
    model = save_clip(folder)
    if spoil == "vision only":
        model.vision_model.save_pretrained(folder)
    elif spoil == "a tensor too many":
        spoil_tensors(folder, "text_model.surplus")
    elif spoil == "words without number":
        config = json.loads((folder / "config.json").read_text())
        config["text_config"]["vocab_size"] = "x"
        (folder / "config.json").write_text(json.dumps(config))
    else:
        for path in folder.glob("*"):
            if path.name.startswith(("tokenizer", "vocab", "merges")):
                path.write_text("{") if spoil == "torn words" else path.unlink()
    with pytest.raises(WeightsError, match=said):
        CLIPText.from_options({"weights": str(folder)})


def spoil_tensors(folder: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    tensors: dict[str, Any] = load_file(folder / "model.safetensors")
    save_file({**tensors, name: torch.zeros(2)}, folder / "model.safetensors")


def test_texts_and_pictures_of_the_other_extractor_are_refused_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "q.txt").write_text("What is this?\n")
    (tmp_path / "photos").mkdir()
    for source, own, other in (
        ("q.txt", "clip", "clip-text"),
        ("photos", "clip-text", "clip"),
        ("a.jpg", "clip-text", "clip"),
    ):
        command = ["extract", str(tmp_path / source), str(tmp_path / "s"), "--extractor", own, "--weights", TINY]
        assert main(command) == 2
        assert f"--extractor {other}" in capsys.readouterr().err
        assert not (tmp_path / "s").exists()


def test_a_file_and_stdin_are_cut_into_the_same_lines(tmp_path: Path) -> None:
    lines = ["one\u2028two\n", "three\x0bfour\n", "\n", "five"]
    (tmp_path / "q.txt").write_text("".join(lines))
    wanted = ["one two", "three four", "five"]
    assert [one.key for one in list_texts(str(tmp_path / "q.txt"))] == wanted
    assert [one.key for one in list_texts("-", stdin=lines)] == wanted


def test_how_many_texts_were_cut_is_told_when_the_run_is_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The untrained tower reads 32 tokens, both ends among them, and a letter is one."""
    (tmp_path / "q.txt").write_text("\n".join(["a" * 30, "b" * 31, "c" * 40, "d"]))
    command = ["extract", str(tmp_path / "q.txt"), str(tmp_path / "s"), "--extractor", "clip-text", "--weights", TINY]
    assert main(command) == 0
    assert capsys.readouterr().err.count("2 texts were longer than the 32 tokens") == 1


def test_one_text_is_no_list_of_letters() -> None:
    with pytest.raises(UsageError, match="a list of them"):
        CLIP(weights=TINY).texts("hello")
