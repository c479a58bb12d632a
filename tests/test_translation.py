"""Data sets in more languages: what is written, what is translated, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from featx.cli import main
from featx.data import read_captions, read_questions
from featx.errors import StoreError, UsageError, WeightsError
from featx.translation import Done, Job, translate
from tests.test_predictor_marian import make_marian

ASKED = ["Is it red?", "What colour is the cube?", "Is it red?", "How many?"]
QUESTIONS = {
    "info": {"year": 2014}, "data_subtype": "val2014",
    "questions": [{"question_id": 10 * i, "image_id": 42 + i // 2, "question": q} for i, q in enumerate(ASKED)],
}  # fmt: skip
SETTLED = ["yes", "red", "yes", "one"]
ANNOTATIONS = {
    "annotations": [
        {"question_id": 10 * i, "image_id": 42 + i // 2, "question_type": "what", "answer_type": "other",
         "multiple_choice_answer": a, "answers": [{"answer": a, "answer_id": n} for n in range(1, 11)]}
        for i, a in enumerate(SETTLED)
    ]
}  # fmt: skip


class Shouting:
    """``Is it red?`` -> ``FR: IS IT RED?``, and ``How many?`` into nothing. ``kill``: the call that is the last."""

    def __init__(self, kill: int | None = None, name: str = "shouting") -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.kill, self.name = kill, name

    def about(self, source: str, target: str) -> Mapping[str, Any]:
        return {"from": source, "to": target, "model": self.name}

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        self.calls.append((target, list(texts)))
        if len(self.calls) == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return ["" if text == "How many?" else f" {target}:\n{text}".upper() for text in texts]


class Seen:
    """A bar."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, total: int | None, done: int = 0) -> None:
        self.told.append((total, done))

    def tick(self, count: int) -> None:
        self.told.append(count)


@pytest.fixture
def questions(tmp_path: Path) -> str:
    (tmp_path / "questions_val.json").write_text(json.dumps(QUESTIONS))
    (tmp_path / "annotations.json").write_text(json.dumps(ANNOTATIONS))
    (tmp_path / "answers.txt").write_text("<unk>\nred\nyes\n")
    return str(tmp_path / "questions_val.json")


def make(job: Job, translator: Shouting | None = None) -> Done:
    return translate(job, translator or Shouting(), Seen())


def test_questions_of_every_language_have_the_ids_and_pictures_of_the_source(questions: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = make(Job([questions], out, ["fr", "de"]))
    assert [Path(path).name for path in done.files] == [f"questions_val_{name}.json" for name in ("en", "fr", "de")]
    assert (done.texts, done.translated, done.left) == (3, 6, 2)
    wanted = {
        "en": ASKED,
        "fr": ["FR: IS IT RED?", "FR: WHAT COLOUR IS THE CUBE?", "FR: IS IT RED?", "How many?"],
        "de": ["DE: IS IT RED?", "DE: WHAT COLOUR IS THE CUBE?", "DE: IS IT RED?", "How many?"],
    }
    for language, texts in wanted.items():
        written = json.loads((out / f"questions_val_{language}.json").read_text(encoding="utf-8"))
        rows = [{**row, "question": text} for row, text in zip(QUESTIONS["questions"], texts, strict=True)]
        assert written == {**QUESTIONS, "questions": rows}
        spec = {"questions": str(out / f"questions_val_{language}.json"), "language": language}
        found = read_questions({**spec, "annotations": str(tmp_path / "annotations.json")})
        assert [(q.text, q.answer, q.language) for q in found] == [
            (text, answer, language) for text, answer in zip(texts, SETTLED, strict=True)
        ]


def test_the_table_has_the_published_columns_and_blocks(
    questions: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.translation.table.BLOCK", 3)
    out = tmp_path / "out"
    annotated = {"annotations": [str(tmp_path / "annotations.json")], "vocabulary": str(tmp_path / "answers.txt")}
    make(Job([questions], out, ["fr"], tsv=True, **annotated))  # type: ignore[arg-type]
    picture = ["val2014/COCO_val2014_000000000042.jpg"] * 2 + ["val2014/COCO_val2014_000000000043.jpg"] * 2
    lines = (out / "questions_val_en-fr.tsv").read_text(encoding="utf-8").split("\n")
    assert lines == [
        "image_file\tquestion\tanswer_label\tquestion_type\tlang_id",
        f"{picture[0]}\tIs it red?\t2\twhat\ten",
        f"{picture[1]}\tWhat colour is the cube?\t1\twhat\ten",
        f"{picture[2]}\tIs it red?\t2\twhat\ten",
        f"{picture[0]}\tFR: IS IT RED?\t2\twhat\tfr",
        f"{picture[1]}\tFR: WHAT COLOUR IS THE CUBE?\t1\twhat\tfr",
        f"{picture[2]}\tFR: IS IT RED?\t2\twhat\tfr",
        f"{picture[3]}\tHow many?\t0\twhat\ten",  # "one" is not in the vocabulary
        f"{picture[3]}\tHow many?\t0\twhat\tfr",
        "",
    ]
    spec = {"questions": str(out / "questions_val_en-fr.tsv"), "vocabulary": str(tmp_path / "answers.txt")}
    found = read_questions(spec)
    assert [q.language for q in found] == ["en"] * 3 + ["fr"] * 3 + ["en", "fr"]
    assert [q.answer for q in found] == ["yes", "red", "yes"] * 2 + ["<unk>"] * 2
    assert {q.picture for q in found} == {"COCO_val2014_000000000042", "COCO_val2014_000000000043"}


def test_captions_and_tables_are_translated_too(tmp_path: Path) -> None:
    coco = {
        "images": [{"id": 7, "file_name": "a_7.jpg"}],
        "annotations": [{"id": 1, "image_id": 7, "caption": "A dog."}, {"id": 2, "image_id": 7, "caption": "Two"}],
    }
    (tmp_path / "captions_en.json").write_text(json.dumps(coco))
    (tmp_path / "cc.tsv").write_text('image_file\tcaption\turl\nx/1.jpg\t"A ""big""\tdog."\thttp://a\n')
    done = make(Job([str(tmp_path / "captions_en.json"), str(tmp_path / "cc.tsv")], tmp_path, ["es"], tsv=True))
    names = [Path(path).name for path in done.files]
    assert names == ["captions_es.json", "captions_en-es.tsv", "cc_en-es.tsv"]  # captions_en.json is there already
    assert [c.text for c in read_captions({"captions": str(tmp_path / "captions_es.json")})] == [
        "ES: A DOG.", "ES: TWO",
    ]  # fmt: skip
    table = [(c.picture, c.text, c.language) for c in read_captions({"captions": str(tmp_path / "captions_en-es.tsv")})]
    assert table == [
        ("a_7", "A dog.", "en"),
        ("a_7", "Two", "en"),
        ("a_7", "ES: A DOG.", "es"),
        ("a_7", "ES: TWO", "es"),
    ]
    rows = (tmp_path / "cc_en-es.tsv").read_text().splitlines()
    assert rows[0] == "image_file\tcaption\turl\tlang_id"
    assert rows[1:] == ['x/1.jpg\t"A ""big""\tdog."\thttp://a\ten', 'x/1.jpg\t"ES: A ""BIG"" DOG."\thttp://a\tes']


def test_a_text_is_translated_once_whatever_asks_for_it_again(questions: str, tmp_path: Path) -> None:
    first, again, more = Shouting(), Shouting(), Shouting()
    make(Job([questions], tmp_path / "out", ["fr"], batch=2), first)
    assert first.calls == [("fr", ["What colour is the cube?", "Is it red?"]), ("fr", ["How many?"])]
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert make(Job([questions], tmp_path / "out", ["fr"], batch=2), again).translated == 0
    assert again.calls == []
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()} == before
    other = {
        **QUESTIONS,
        "questions": [*QUESTIONS["questions"][:1], {"question_id": 1, "image_id": 1, "question": "Why?"}],
    }  # type: ignore[index]
    (tmp_path / "other.json").write_text(json.dumps(other))
    make(Job([questions, str(tmp_path / "other.json")], tmp_path / "out", ["fr"]), more)
    assert more.calls == [("fr", ["Why?"])]


def test_the_bar_counts_texts_of_all_languages_and_those_of_an_earlier_run(questions: str, tmp_path: Path) -> None:
    seen, later = Seen(), Seen()
    translate(Job([questions], tmp_path / "out", ["fr"], batch=2), Shouting(), seen)
    assert seen.told == [(3, 0), 2, 1]
    translate(Job([questions], tmp_path / "out", ["fr", "de"], batch=2), Shouting(), later)
    assert later.told == [(6, 3), 2, 1]


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(questions: str, tmp_path: Path, call: int) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    make(Job([questions], whole, ["fr", "de"], tsv=True, batch=2))
    code = (
        "import sys; from pathlib import Path; from tests.test_translation import Job, Shouting, make;"
        f"make(Job([{questions!r}], Path({str(broken)!r}), ['fr', 'de'], tsv=True, batch=2), Shouting({call}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert not list(broken.glob("*.json"))
    with (broken / "translations/en-fr.jsonl").open("ab") as file:
        file.write(b'[["Why?", "Pour')  # the kernel wrote half of a line
    rest = Shouting()
    make(Job([questions], broken, ["fr", "de"], tsv=True, batch=2), rest)
    assert len(rest.calls) == 4 - (call - 1)
    contents = [
        {p.relative_to(f).as_posix(): p.read_bytes() for p in f.rglob("*") if p.is_file() and p.suffix != ".lock"}
        for f in (whole, broken)
    ]
    assert contents[0] == contents[1]


def test_translations_of_another_model_and_damaged_ones_are_refused(questions: str, tmp_path: Path) -> None:
    job = Job([questions], tmp_path / "out", ["fr"])
    make(job)
    with pytest.raises(UsageError, match="were made with model 'shouting', not 'whispering'"):
        make(job, Shouting(name="whispering"))
    journal = tmp_path / "out/translations/en-fr.jsonl"
    begin = journal.read_text().splitlines()[0]
    journal.write_text(f'{begin}\n[["a", 5]]\n')
    with pytest.raises(UsageError, match="line 2 is damaged: it is no list of pairs"):
        make(job)
    journal.write_text('nonsense\n[["a", "b"]]\n')
    with pytest.raises(UsageError, match="line 1 is damaged"):
        make(job)


def test_a_model_that_has_translated_nothing_may_be_replaced_by_another(questions: str, tmp_path: Path) -> None:
    class Absent(Shouting):
        def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
            raise WeightsError("the model cannot be loaded")

    job = Job([questions], tmp_path / "out", ["fr"])
    with pytest.raises(WeightsError):
        make(job, Absent(name="absent"))
    assert make(job).translated == 3


def test_two_at_once_do_not_mix(questions: str, tmp_path: Path) -> None:
    class Busy(Shouting):
        def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
            with pytest.raises(StoreError, match="is being written by"):
                make(Job([questions], tmp_path / "out", ["fr"]))
            return super().translate(texts, source, target)

    assert make(Job([questions], tmp_path / "out", ["fr"]), Busy()).translated == 3


def test_what_somebody_else_made_is_not_written_over(questions: str, tmp_path: Path) -> None:
    (tmp_path / "questions_val_fr.json").write_text("by hand")
    shouting = Shouting()
    with pytest.raises(UsageError, match=r"questions_val_fr\.json is there already, and was not made here"):
        make(Job([questions], tmp_path, ["fr"]), shouting)
    assert shouting.calls == []
    assert (tmp_path / "questions_val_fr.json").read_text() == "by hand"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": []}, "from en to nothing"),
        ({"targets": ["fr", "fr"]}, "name other languages, each once"),
        ({"targets": ["en"]}, "name other languages, each once"),
        ({"batch": 0}, "batch is 0"),
        ({"tsv": True, "annotations": ["a", "b"], "vocabulary": "v"}, "1 files and 2 of annotations"),
        ({"tsv": True, "annotations": ["a"]}, "as classes of a vocabulary"),
        ({"annotations": ["a"], "vocabulary": "v"}, "as classes of a vocabulary"),
    ],
)
def test_a_job_that_cannot_be_done_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Job(**{"files": ["q.json"], "out": tmp_path, "targets": ["fr"], **changes})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.json", '{"images": []}', "neither questions nor captions"),
        ("q.json", '{"questions": [{"question": " "}]}', "'question' of questions"),
        ("q.tsv", "image_file\turl\na.jpg\tb\n", "0 of the columns question and caption"),
        ("q.tsv", "image_file\tcaption\tlang_id\na.jpg\tb\tfr\n", "line 2: its language is fr"),
    ],
)
def test_a_file_of_another_layout_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        make(Job([str(tmp_path / name)], tmp_path / "out", ["fr"]))


def test_files_and_vocabularies_that_do_not_fit_are_refused(questions: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would be made of two of the files"):
        make(Job([questions, questions], tmp_path / "out", ["fr"]))
    (tmp_path / "plain.txt").write_text("no\nyes\n")
    given = {"annotations": [str(tmp_path / "annotations.json")], "vocabulary": str(tmp_path / "plain.txt")}
    with pytest.raises(UsageError, match="has no <unk>"):
        make(Job([questions], tmp_path / "out", ["fr"], tsv=True, **given))  # type: ignore[arg-type]


def test_the_command_translates_through_marian_models(
    questions: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    french = {"Is it red?": "Est-ce rouge ?", "What colour is the cube?": "Quelle couleur ?", "How many?": "Combien ?"}
    make_marian(tmp_path / "en-fr", french)
    capfd.readouterr()
    out = tmp_path / "out"
    command = ["translate", questions, "--to", "fr", "--out", str(out), "--model", f"fr={tmp_path / 'en-fr'}"]
    assert main([*command, "--json"]) == 0
    said, told = capfd.readouterr()
    files = [str(out / f"questions_val_{language}.json") for language in ("en", "fr")]
    assert json.loads(said) == {"files": files, "texts": 3, "translated": 3, "left": 0}
    assert told == ""
    found = read_questions({"questions": files[1], "language": "fr"})
    assert [q.text for q in found] == [french[text] for text in ASKED]
    journal = (out / "translations/en-fr.jsonl").read_text().splitlines()
    assert json.loads(journal[0]) == {
        "from": "en", "to": "fr", "model": str(tmp_path / "en-fr"), "beams": 4, "longest": 64,
    }  # fmt: skip
    assert main(command) == 0
    assert "3 different texts in 2 languages, 0 translated in this run" in capfd.readouterr().out
    assert main([*command, "--beams", "2"]) == 2
    assert "were made with beams 4, not 2" in capfd.readouterr().err
    assert main([*command, "--model", "de=x"]) == 2
    assert "--model de=x names no model of a language of --to" in capfd.readouterr().err
