"""Accuracies, normalisation and BLEU of the official code, entry by entry."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from featx.data.question import Question
from featx.metrics import bleu, vizwiz, vqa
from featx.metrics.normalise import VIZWIZ, normalise_answer, strip_punctuation, strip_words
from featx.metrics.ranking import average_precision, f1
from featx.metrics.score import score
from tests.parity.folder import Entries, Folder
from tests.parity.table import Table

ROUNDING = 1e-10  # Python 2 printed floats with 12 digits
BLEU_ROUNDING = 1e-9


def compare(folder: Folder, table: Table) -> None:
    """Every entry of every file."""
    compare_normalisation(folder, table)
    compare_differences(folder, table)
    compare_vqa(folder, table)
    compare_vizwiz(folder, table)
    compare_answerability(folder, table)
    compare_sentences(folder, table)
    compare_corpora(folder, table)


class Column:
    """Values of one rule side by side: ``got`` and ``want``, put into the table as one row."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))

    def add(self, stage: str, got: Any, want: Any) -> None:
        self.rows[stage][0].append(got)
        self.rows[stage][1].append(want)

    def equal(self, table: Table, file: str) -> None:
        for stage, (got, want) in self.rows.items():
            table.equal(
                "metrics", f"{file}: {stage}", [a == b for a, b in zip(got, want, strict=True)], [True] * len(got)
            )

    def close(self, table: Table, file: str, tolerance: float) -> None:
        for stage, (got, want) in self.rows.items():
            table.close("metrics", f"{file}: {stage}", got, want, tolerance)


def compare_normalisation(folder: Folder, table: Table) -> None:
    """Both steps of the normalisation and each alone."""
    steps: dict[str, Callable[[str], str]] = {
        "after_punctuation": strip_punctuation,
        "after_both": lambda text: strip_words(strip_punctuation(text)),
        "digit_article_only": strip_words,
    }
    column = Column()
    for row in folder.entries("vqa_normalise.json").rows():
        for stage, step in steps.items():
            column.add(stage, step(row["in"]), row[stage])
    column.equal(table, "vqa_normalise")


def compare_differences(folder: Folder, table: Table) -> None:
    """Where VizWiz normalises otherwise, and that it does nowhere else."""

    def of_vizwiz(text: str) -> str:
        return strip_words(strip_punctuation(text, VIZWIZ), VIZWIZ)

    column, listed = Column(), set()
    for row in folder.entries("vizwiz_normalise_differences.json").rows():
        listed.add(row["in"])
        column.add("vqa", strip_words(strip_punctuation(row["in"])), row["vqa"])
        column.add("vizwiz", of_vizwiz(row["in"]), row["vizwiz"])
    for row in folder.entries("vqa_normalise.json").rows():
        if row["in"] not in listed:
            column.add("equal elsewhere", of_vizwiz(row["in"]), row["after_both"])
    column.equal(table, "vizwiz_normalise_differences")


def compare_vqa(folder: Folder, table: Table) -> None:
    """Every case by the rule it is about, then the figures of the whole file."""
    file = folder.entries("vqa_accuracy.json")
    strings, numbers, questions, predictions = Column(), Column(), [], {}
    for case in file["cases"].rows():
        rule = re.sub(r" \S$", "", case["rule"])  # a rule about marks ends with the mark
        answers, ids = tuple(case["answers"]), tuple(case.get("answer_ids", ()))
        said, given = vqa.compared(case["prediction"], answers)
        accuracy = vqa.vqa_accuracy(case["prediction"], answers, ids)
        strings.add(rule, (said, given), (case["prediction_after"], case["answers_after"]))
        strings.add("gate", len({vqa.clean(answer) for answer in answers}) > 1, case["normalised"])
        numbers.add(rule, accuracy, case["accuracy"])
        strings.add("percent", round(100 * accuracy, 2), case["percent"])
        number = case["question_id"]
        predictions[number] = case["prediction"]
        questions.append(question(number, answers, case["answer_type"], case["question_type"], answer_ids=ids))
    strings.equal(table, "vqa strings")
    numbers.close(table, "vqa accuracy", ROUNDING)
    compare_report(table, "vqa", vqa.score_vqa(questions, predictions), file["overall"])


def compare_vizwiz(folder: Folder, table: Table) -> None:
    """Every case, then the figures of the whole file."""
    file = folder.entries("vizwiz.json")
    strings, numbers, questions, predictions = Column(), Column(), [], {}
    for case in file["cases"].rows():
        answers, said = tuple(case["answers"]), case["prediction"]
        accuracy = vizwiz.vizwiz_accuracy(said, answers)
        strings.add("prediction_after", normalise_answer(said, VIZWIZ), case["prediction_after"])
        strings.add("percent", round(100 * accuracy, 2), case["percent"])
        numbers.add("accuracy", accuracy, case["accuracy"])
        numbers.add("accuracy_min_third", vizwiz.simple_accuracy(said, answers), case["accuracy_min_third"])
        questions.append(question(case["image"], answers, case["answer_type"], ""))
        predictions[case["image"]] = said
    strings.equal(table, "vizwiz")
    numbers.close(table, "vizwiz", ROUNDING)
    report = score("vizwiz", questions, predictions)
    compare_report(table, "vizwiz", report, file["overall"])
    table.equal("metrics", "vizwiz: simple", report["simple"], round(100 * file["mean_accuracy_min_third"], 2))


def compare_answerability(folder: Folder, table: Table) -> None:
    """Average precision both ways round, and F1."""
    file = folder.entries("vizwiz.json")
    want, cases = file["answerability"], file["cases"].rows()
    yes, scores = [case["answerable"] == 1 for case in cases], [case["answerable_score"] for case in cases]
    no, against = [not answerable for answerable in yes], [1 - s for s in scores]
    numbers = Column()
    numbers.add("average_precision", average_precision(no, against), want["average_precision"])
    numbers.add(
        "answerable as positive", average_precision(yes, scores), want["average_precision_with_answerable_as_positive"]
    )
    numbers.add("f1", f1(no, [s > 0.5 for s in against]), want["f1"])
    numbers.close(table, "answerability", ROUNDING)
    questions = [question(i, (), "", "", answerable=answerable) for i, answerable in enumerate(yes)]
    report = score("answerability", questions, dict(enumerate(scores)))
    table.equal("metrics", "answerability: percent", [report["overall"], report["f1"]],
                [want["average_precision_percent"], want["f1_percent"]])  # fmt: skip


def compare_report(table: Table, file: str, got: dict[str, Any], want: Entries) -> None:
    """Percentages of a whole file, which the official code rounds to two digits."""
    table.equal("metrics", f"{file}: overall", got["overall"], want["overall"])
    for name, theirs in (("per answer type", "perAnswerType"), ("per question type", "perQuestionType")):
        if name in got:
            table.equal("metrics", f"{file}: {name}", [got[name] == want[theirs].plain()], [True])


def compare_sentences(folder: Folder, table: Table) -> None:
    """BLEU-1 to 4 of single captions against one and two references, and their words."""
    numbers, strings = Column(), Column()
    for pair in folder.entries("bleu.json")["pairs"].rows():
        kind = f"{pair['lang']}, {pair['how']}"
        for name, references in (("", 1), ("_two_references", 2)):
            given = [pair["reference"], pair["second_reference"]][:references]
            for order in range(1, 5):
                got = bleu.sentence_bleu(pair["hypothesis"], given, order=order)
                numbers.add(kind, got.score, pair[f"bleu{order}{name}"])
        for side in ("hypothesis", "reference"):
            strings.add("tokens", bleu.tokens(pair[side]), pair[f"{side}_13a"].split())
    numbers.close(table, "bleu of a sentence", BLEU_ROUNDING)
    strings.equal(table, "bleu")


def compare_corpora(folder: Folder, table: Table) -> None:
    """BLEU of each language's captions and of all."""
    file = folder.entries("bleu.json")
    pairs, exact, numbers = file["pairs"].rows(), Column(), Column()
    for want in file["corpus"].rows():
        chosen = [pair for pair in pairs if want["corpus"] in ("all", pair["lang"])]
        given = [[pair["reference"], pair["second_reference"]][: want["references"]] for pair in chosen]
        got = bleu.corpus_bleu(
            [pair["hypothesis"] for pair in chosen], given, order=want["order"], tokenize=want["tokenize"],
            lowercase=want["lowercase"], smooth=want["smooth_method"], smooth_value=want.get("smooth_value"),
        )  # fmt: skip
        kind = f"{want['tokenize']}, {want['smooth_method']}"
        exact.add(f"{kind}: counts", (list(got.counts), list(got.totals)), (want["counts"], want["totals"]))
        exact.add(f"{kind}: lengths", (got.hypothesis_length, got.reference_length), (want["sys_len"], want["ref_len"]))
        exact.add("settings", settings(got.signature), settings(want["signature"]))
        numbers.add(f"{kind}: score", got.score, want["score"])
        numbers.add(f"{kind}: brevity", got.brevity_penalty, want["bp"])
        for ours, theirs in zip(got.precisions, want["precisions"], strict=True):
            numbers.add(f"{kind}: precisions", ours, theirs)
    table.equal("metrics", "bleu: major version", file["sacrebleu"].split(".")[0], "2")
    exact.equal(table, "bleu")
    numbers.close(table, "bleu", BLEU_ROUNDING)


def settings(signature: str) -> list[str]:
    """A signature without the version of sacrebleu."""
    return [part for part in signature.split("|") if not part.startswith("version:")]


def question(number: Any, answers: tuple[str, ...], answer_type: str, question_type: str, **more: Any) -> Question:
    return Question(number, "", "?", None, answers, answer_type, question_type, **more)
