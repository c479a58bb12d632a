"""Captions as numbers, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from featx.clip_mbart.languages import CODES
from featx.clip_mbart.vocabulary import Vocabulary
from featx.errors import UsageError, WeightsError
from featx.scenes.captions import caption
from tests import mbart_toys as toys

ALL = [text for texts in toys.TEXTS.values() for text in texts]


def test_every_caption_comes_back_letter_by_letter() -> None:
    """Also of words that are not in the vocabulary, as long as their letters are."""
    words = toys.vocabulary()
    texts = [*ALL, "A cube, a ball.", "balls", "là, rouge ici.", "A  ball", "l'est", "Two Deux. re"]
    assert set("".join(texts)) == set("".join(ALL))
    encoded = words.encode(texts, ["en"] * len(texts))
    assert words.decode(encoded.ids.tolist()) == texts
    assert encoded.truncated == 0
    assert words.decode(words.encode(["Ünknown letters"], ["en"]).ids.tolist()) != ["Ünknown letters"]


def test_a_row_is_code_words_end_and_padding() -> None:
    words = toys.vocabulary()
    encoded = words.encode(["A red ball is here.", "Deux ballons rouges."], ["en_XX", "fr"])
    tokens = [[words.backend.id_to_token(i) for i in row] for row in encoded.ids.tolist()]
    assert tokens[0] == ["en_XX", "▁A", "▁red", "▁ball", "▁is", "▁here", ".", "</s>"]
    assert tokens[1] == ["fr_XX", "▁Deux", "▁ballons", "▁rouges", ".", "</s>", "<pad>", "<pad>"]
    assert encoded.mask.sum(dim=1).tolist() == [8, 6]
    assert [words.backend.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]


def test_a_caption_that_is_too_long_loses_its_end_but_not_the_mark_of_it() -> None:
    words = toys.vocabulary(max_length=5)
    encoded = words.encode(["A red ball is here.", "balls"], ["en", "en"])
    assert encoded.truncated == 1
    assert words.decode(encoded.ids.tolist()) == ["A red ball", "balls"]
    assert encoded.ids[0, -1] == 2


def test_the_same_texts_give_the_same_vocabulary_in_any_order() -> None:
    first = Vocabulary.train(ALL, ["en", "fr"], 120).backend.get_vocab()
    assert Vocabulary.train(ALL[::-1], ["fr", "en", "fr"], 120).backend.get_vocab() == first
    assert sorted(first.values()) == list(range(len(first)))
    smaller = Vocabulary.train(ALL, ["en", "fr"], 10)
    assert set("".join(ALL)) - {" "} <= set(smaller.backend.get_vocab())
    assert smaller.decode(smaller.encode(ALL, ["en"] * len(ALL)).ids.tolist()) == ALL


def test_transformers_reads_the_files(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    words = toys.vocabulary()
    words.save(tmp_path)
    theirs, again = AutoTokenizer.from_pretrained(tmp_path), Vocabulary.load(tmp_path, 24)
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.convert_tokens_to_ids("fr_XX")) == (1, 2, words.code("fr"))
    ids = words.encode(ALL, ["fr"] * len(ALL)).ids.tolist()
    assert again.encode(ALL, ["fr"] * len(ALL)).ids.tolist() == ids
    assert theirs.batch_decode(ids, skip_special_tokens=True) == ALL
    assert len(again) == len(words) == len(theirs)


def test_mbart_50_is_read_from_its_sentencepiece_model(tmp_path: Path) -> None:
    """Ids are those of transformers: fairseq's four, the pieces, 52 codes in their order, the mask."""
    import sentencepiece
    from transformers import MBart50Tokenizer

    (tmp_path / "texts.txt").write_text("\n".join(ALL * 20), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "texts.txt"), model_prefix=str(tmp_path / "sentencepiece.bpe"), vocab_size=60,
        hard_vocab_limit=False, minloglevel=2, num_threads=1,
    )  # fmt: skip
    words = Vocabulary.load(tmp_path)
    theirs = MBart50Tokenizer.from_pretrained(tmp_path, tgt_lang="fr_XX")
    assert words.codes == {code[:2]: theirs.lang_code_to_id[code] for code in CODES.values()}
    assert words.code("fr") - words.code("de") == 5  # 250008 and 250003 in the published one
    for text in ALL:
        ids = words.encode([text], ["fr"]).ids.tolist()
        assert ids[0] == theirs(text_target=text)["input_ids"]
        assert words.decode(ids) == [text]


def test_what_is_no_vocabulary_of_captions_is_refused(tmp_path: Path) -> None:
    from featx.text.wordpiece import Tokens

    with pytest.raises(WeightsError, match=r"no tokenizer.json and no sentencepiece"):
        Vocabulary.load(tmp_path)
    Tokens.train(ALL, 60).save(tmp_path)
    with pytest.raises(WeightsError, match="expected 0, 1, 2, 3"):
        Vocabulary.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(WeightsError, match="cannot be read"):
        Vocabulary.load(tmp_path)
    with pytest.raises(UsageError, match="no language 'klingon'"):
        Vocabulary.train(ALL, ["klingon"])


def test_captions_of_the_scenes_come_back_whole_in_every_language() -> None:
    from featx.scenes.languages import LANGUAGES
    from featx.scenes.layout import lay_out

    texts, languages = [], []
    for index in range(40):
        for one in caption(lay_out(1, "train", index)):
            for name, language in LANGUAGES.items():
                texts.append(one.text(language))
                languages.append(name)
    words = Vocabulary.train(texts, languages, 1000)
    assert sorted(words.codes) == ["de", "en", "es", "fr"]
    assert words.decode(words.encode(texts, languages).ids.tolist()) == texts
