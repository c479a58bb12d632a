"""Word pieces: as BERT cuts them, read and written as transformers reads and writes them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from featx.errors import WeightsError
from featx.text.wordpiece import SPECIAL, Tokens
from tests.lxmert_toys import WORDS

CORPUS = [
    "What colour is the cube?",
    "How many balls are there?",
    "Où est l'arbre vert, à gauche ?",
    "Is it 3.5 o'clock?",
]


def test_questions_are_cut_as_by_the_original_tokenizer(shared: Path) -> None:
    folder = shared / "fixtures/consumers/lxmert/vqa"
    tokens = Tokens.load(folder)
    for case in json.loads((folder / "sentences.json").read_text()):
        ids = tokens.encode([case["sentence"]]).ids[0].tolist()
        assert ids + [0] * (20 - len(ids)) == case["input_ids"]


def test_a_vocabulary_cuts_as_transformers_does(tmp_path: Path) -> None:
    from transformers import BertTokenizer

    pieces = [
        *SPECIAL,
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
        *WORDS,
        "?",
        ",",
    ]
    (tmp_path / "vocab.txt").write_text("\n".join(dict.fromkeys(pieces)))
    theirs = BertTokenizer(vocab=str(tmp_path / "vocab.txt"))
    texts = [*CORPUS, "  spaces\tand\nlines ", "ÀÉÎõü straße", "日本 と 韓国", "", "co-operate!!", "x" * 150]
    found = Tokens.load(tmp_path, 64).encode(texts)
    wanted = theirs(texts, padding=True)
    assert found.ids.tolist() == wanted["input_ids"]
    assert found.mask.tolist() == wanted["attention_mask"]


def test_learned_words_are_read_back_by_featx_and_by_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokens = Tokens.train(CORPUS, 200, 12)
    tokens.save(tmp_path)
    again, theirs = Tokens.load(tmp_path, 12), AutoTokenizer.from_pretrained(tmp_path)
    texts = [*CORPUS, "What other words are there?"]
    wanted = tokens.encode(texts).ids.tolist()
    assert again.encode(texts).ids.tolist() == wanted
    assert theirs(texts, padding=True, truncation=True)["input_ids"] == wanted
    (tmp_path / "tokenizer.json").unlink()
    assert Tokens.load(tmp_path, 12).encode(texts).ids.tolist() == wanted  # vocab.txt alone says the same


def test_words_of_the_corpus_are_whole_where_there_is_room() -> None:
    tokens = Tokens.train(CORPUS, 500)
    found = tokens.backend.encode("the cube there").tokens
    assert found == ["[CLS]", "the", "cube", "there", "[SEP]"]
    assert "[UNK]" not in tokens.backend.encode("ballet").tokens  # letters are known, too


def test_the_same_corpus_gives_the_same_words_in_every_process_and_order() -> None:
    code = (
        "import random, sys\nfrom featx.text.wordpiece import Tokens\n"
        "texts = [f'{a}{b} {b}{c}' for a in 'xyzw' for b in 'mnop' for c in 'qrst']\n"  # all words equally frequent
        "random.Random(int(sys.argv[1])).shuffle(texts)\n"
        "print(sorted(Tokens.train(texts, 40).backend.get_vocab().items()))"
    )
    command = [sys.executable, "-c", code]
    runs = {subprocess.run([*command, str(i)], capture_output=True, text=True, check=True).stdout for i in range(3)}
    assert len(runs) == 1


def test_frequent_words_come_before_rare_ones() -> None:
    tokens = Tokens.train(["aa bb", "bb cc", "cc bb", "dd"], 5 + 8 + 2)  # special, letters of both kinds, and two words
    assert {"bb", "cc"} <= set(tokens.backend.get_vocab())
    assert not {"aa", "dd"} & set(tokens.backend.get_vocab())
    assert tokens.backend.encode("aa").tokens == ["[CLS]", "a", "##a", "[SEP]"]


def test_a_long_question_loses_its_end_and_is_counted() -> None:
    tokens = Tokens.train(CORPUS, 500, 6)
    found = tokens.encode(["what colour is the cube there", "the cube"])
    assert found.ids.shape == (2, 6)
    assert found.truncated == 1
    assert tokens.backend.decode(found.ids[0].tolist(), skip_special_tokens=False) == "[CLS] what colour is the [SEP]"
    assert found.ids[1].tolist()[4:] == [0, 0]
    assert found.mask[1].tolist() == [1, 1, 1, 1, 0, 0]


def test_a_place_without_a_vocabulary_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"tokenizer\.json or vocab\.txt"):
        Tokens.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("tokenizer.json", "{", "cannot be read"),
        ("tokenizer.json", '{"version": 3}', "cannot be read"),
        ("vocab.txt", "the\ncube\n", r"has no \[PAD\]"),
        ("vocab.txt", "the\n[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", "id 0"),
    ],
)
def test_a_damaged_vocabulary_is_a_sentence(tmp_path: Path, name: str, content: str, what: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(WeightsError, match=what):
        Tokens.load(tmp_path)
