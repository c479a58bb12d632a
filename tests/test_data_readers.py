"""Readers on files of the real layouts, written here as their documentation describes them."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from featx.data import Caption, Question, read_captions, read_questions
from featx.errors import UsageError
from featx.metrics import accuracy
from featx.tasks.sentences import read_sentences

VQA_QUESTIONS = {
    "info": {"version": "2.0"}, "task_type": "Open-Ended", "data_type": "mscoco", "data_subtype": "val2014",
    "license": {}, "questions": [
        {"image_id": 42, "question": "What is on the road?", "question_id": 42000},
        {"image_id": 42, "question": "Is it red? ", "question_id": 42001},
        {"image_id": 262148, "question": "How many wheels?", "question_id": 262148000},
    ],
}  # fmt: skip


def annotation(number: int, image: int, answers: list[str], settled: str, kind: str) -> dict[str, Any]:
    given = [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(answers, 1)]
    return {
        "question_type": "what", "multiple_choice_answer": settled, "answers": given, "image_id": image,
        "answer_type": kind, "question_id": number,
    }  # fmt: skip


def vqa_annotations() -> dict[str, Any]:
    """The annotations, not in the order of the questions."""
    return {
        "info": {}, "license": {}, "data_subtype": "val2014", "data_type": "mscoco", "annotations": [
            annotation(262148000, 262148, ["4"] * 8 + ["four", "3"], "4", "number"),
            annotation(42000, 42, ["bus"] * 3 + ["A bus"] * 2 + ["truck"] * 2 + ["Car.", "van", "cab"], "bus", "other"),
            annotation(42001, 42, ["yes"] * 10, "yes", "yes/no"),
        ],
    }  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write JSON under a name and get its path as a string."""

    def to(name: str, content: Any) -> str:
        (tmp_path / name).write_text(json.dumps(content))
        return str(tmp_path / name)

    return to


def failure(spec: Mapping[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        read_questions(spec)
    return str(caught.value)


def test_vqa_questions_come_with_their_annotations(write: Any) -> None:
    first, second, third = read_questions(
        {
            "format": "vqa",
            "questions": write("q.json", VQA_QUESTIONS),
            "annotations": write("a.json", vqa_annotations()),
        }
    )
    assert (first.id, first.picture, first.text) == (42000, "COCO_val2014_000000000042", "What is on the road?")
    # bus 5 of ten after normalisation, truck 2, the others 1
    assert first.scores == {"bus": 1.0, "truck": 0.6, "car": 0.3, "van": 0.3, "cab": 0.3}
    assert first.answers[:4] == ("bus", "bus", "bus", "A bus")
    assert (first.answer, first.answer_type, first.question_type) == ("bus", "other", "what")
    assert (second.text, second.scores) == ("Is it red?", {"yes": 1.0})
    assert third.scores == {"4": 1.0, "3": 0.3}
    assert third.answer_ids == ()


def test_a_test_set_has_no_answers(write: Any) -> None:
    questions = read_questions({"questions": write("q.json", {**VQA_QUESTIONS, "data_subtype": "test-dev2015"})})
    assert [q.scores for q in questions] == [None] * 3
    assert questions[0].picture == "COCO_test2015_000000000042"


def test_a_template_names_the_pictures(write: Any) -> None:
    path = write("q.json", {**VQA_QUESTIONS, "data_subtype": "scenes"})
    assert read_questions({"questions": path})[0].picture == "42"
    spec = {"questions": path, "image_name": "{split}/scene_{image_id:012d}", "language": "fr"}
    assert read_questions(spec)[0].picture == "scenes/scene_000000000042"
    assert read_questions(spec)[0].language == "fr"


@pytest.mark.parametrize("template", ["picture", "{number}", "{image_id.name}", "{image_id:zz}", "{", "{0}"])
def test_a_template_that_cannot_be_filled_in_is_named(write: Any, template: str) -> None:
    assert repr(template) in failure({"questions": write("q.json", VQA_QUESTIONS), "image_name": template})


def test_equal_annotator_numbers_are_kept_and_different_ones_are_not(write: Any) -> None:
    notes = vqa_annotations()
    for given in notes["annotations"][1]["answers"]:
        given["answer_id"] = 1
    spec = {"questions": write("q.json", VQA_QUESTIONS), "annotations": write("a.json", notes)}
    first, second, _ = read_questions(spec)
    assert first.answer_ids == (0,) * 10
    assert second.answer_ids == ()


def test_files_are_read_as_they_are_distributed(tmp_path: Path) -> None:
    questions, notes = json.dumps(VQA_QUESTIONS).encode(), json.dumps(vqa_annotations()).encode()
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(notes))
    with zipfile.ZipFile(tmp_path / "q.zip", "w") as archive:
        archive.writestr("v2_Questions.json", questions)
        archive.writestr("__MACOSX/v2_Questions.json", b"")
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        archive.writestr("q.json", b"\xef\xbb\xbf" + questions)
        archive.writestr("deep/a.json", notes)
    one = read_questions({"questions": str(tmp_path / "q.zip"), "annotations": str(tmp_path / "a.json.gz")})
    both = str(tmp_path / "both.zip")
    assert one == read_questions({"questions": f"{both}:q.json", "annotations": f"{both}:deep/a.json"})
    assert "both.zip holds 2 JSON files" in failure({"questions": both})
    assert "both.zip holds no c.json" in failure({"questions": f"{both}:c.json"})


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.json", b"{", "is not the JSON of a data set"),
        ("a.json", b"\xff\xfe", "is not the JSON of a data set"),
        ("a.json", b"[" * 200_000, "is not the JSON of a data set"),
        ("a.json", b'{"questions": 1, "questions": 2}', "names 'questions' twice"),
        ("a.json.gz", b"{}", "a.json.gz cannot be read"),
        ("a.json.gz", gzip.compress(b"{}", mtime=0)[:-9], "a.json.gz cannot be unpacked"),
        ("a.zip", b"{}", "a.zip cannot be unpacked"),
        ("a.json", b"{}", "a.json: it is of no known layout"),
        ("a.json", b"[]", "a.json: it is of no known layout"),
        ("a.json", b"7", "a.json: it is of no known layout"),
    ],
)
def test_a_file_that_is_no_data_set_is_named(tmp_path: Path, name: str, data: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert sentence in failure({"questions": str(tmp_path / name)})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "nothing.json cannot be read: No such file" in failure({"questions": str(tmp_path / "nothing.json")})


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({}, "no 'questions'"),
        ({"question": "q.json"}, "unknown setting 'question'\n  -> did you mean questions? known are annotations, "),
        ({"questions": "q.json", "zebra": 1}, "unknown setting 'zebra'\n  -> known are annotations, "),
        ({"questions": "q.json", "format": "okvqa"}, "there is no format 'okvqa'"),
        ({"questions": "q.json", "format": "gqa", "annotations": "a.json"}, "gqa has no annotations file"),
        ({"questions": "q.json", "format": "gqa"}, "q.json: it does not map question ids"),
        ({"questions": "q.json", "format": "lxmert"}, "q.json: it is no list of objects with 'img_id'"),
        ({"questions": "a.json", "format": "vqa"}, "a.json: it has no 'questions'"),
        ({"questions": "q.json", "annotations": "q.json"}, "q.json: it has no 'annotations'"),
    ],
)
def test_a_specification_that_does_not_fit_is_explained(
    write: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spec: dict[str, Any], sentence: str
) -> None:
    write("q.json", VQA_QUESTIONS)
    write("a.json", vqa_annotations())
    monkeypatch.chdir(tmp_path)
    assert sentence in failure(spec)


def changed(content: dict[str, Any], rows: str, position: int, field: str, value: Any) -> dict[str, Any]:
    """A copy with one field of one entry changed; None takes it away."""
    copy: dict[str, Any] = json.loads(json.dumps(content))
    copy[rows][position][field] = value
    if value is None:
        del copy[rows][position][field]
    return copy


@pytest.mark.parametrize(
    ("where", "position", "field", "value", "sentence"),
    [
        ("questions", 1, "question", " ", "'question' of questions[1] is \" \""),
        ("questions", 1, "question", None, "'question' of questions[1] is absent"),
        ("questions", 1, "question_id", 4.5, "'question_id' of questions[1] is 4.5"),
        ("questions", 1, "question_id", True, "'question_id' of questions[1] is true"),
        ("questions", 1, "image_id", None, "'image_id' of questions[1] is absent"),
        ("questions", 1, "image_id", 43, "'image_id' of annotations[2] is 42"),
        ("questions", 1, "question_id", 42000, "questions[1] with question_id 42000 has no annotation, or comes twice"),
        ("questions", 1, "question_id", 7, "questions[1] with question_id 7 has no annotation"),
        ("annotations", 0, "question_id", 42000, "question_id 42000 is annotated twice"),
        ("annotations", 0, "answers", [], "'answers' of annotations[0] is a list of answers"),
        ("annotations", 0, "answers", [{"answer": "x", "answer_id": 1}], "expected at least 2"),
        ("annotations", 0, "answers", ["yes"], "'answers' of annotations[0] is a list of 1"),
        ("annotations", 0, "answers", [{"answer": 4}], "'answers' of annotations[0] is a list of 1"),
        ("annotations", 0, "answer_type", 3, "'answer_type' of annotations[0] is 3"),
    ],
)
def test_a_wrong_entry_is_named_with_its_place(
    write: Any, where: str, position: int, field: str, value: Any, sentence: str
) -> None:
    files: dict[str, dict[str, Any]] = {"questions": VQA_QUESTIONS, "annotations": vqa_annotations()}
    files[where] = changed(files[where], where, position, field, value)
    assert sentence in failure({name: write(f"{name}.json", content) for name, content in files.items()})


def test_annotations_without_questions_are_counted(write: Any) -> None:
    questions = {**VQA_QUESTIONS, "questions": VQA_QUESTIONS["questions"][:1]}
    spec = {"questions": write("q.json", questions), "annotations": write("a.json", vqa_annotations())}
    assert "a.json: 2 annotations have no question in " in failure(spec)


def test_an_id_that_comes_twice_is_named(write: Any) -> None:
    questions = changed(VQA_QUESTIONS, "questions", 2, "question_id", 42000)
    assert "q.json: the id 42000 comes twice" in failure({"questions": write("q.json", questions)})


def test_gqa_keeps_its_answers_as_written(write: Any) -> None:
    content = {
        "02930152": {
            "semantic": [], "entailed": [], "equivalent": ["02930152"], "question": "What is he wearing?",
            "imageId": "2354786", "isBalanced": True, "groups": {"global": None, "local": "06-wear"},
            "answer": "t-shirt", "semanticStr": "", "fullAnswer": "He is wearing a t-shirt.",
            "types": {"detailed": "relO", "semantic": "relation", "structural": "query"}, "annotations": {},
        },
        "07333408": {"question": "Is it overcast?", "imageId": "n161313", "isBalanced": True, "types": None},
    }  # fmt: skip
    first, second = read_questions({"format": "gqa", "questions": write("val_balanced_questions.json", content)})
    assert first == Question(
        "02930152", "2354786", "What is he wearing?", {"t-shirt": 1.0}, ("t-shirt",), "relation", "query",
        answer="t-shirt", metric="gqa",
    )  # fmt: skip
    assert (second.picture, second.scores, second.answers) == ("n161313", None, ())
    content["02930152"]["imageId"] = 5.0
    assert "'imageId' of question '02930152' is 5.0" in failure({"questions": write("g.json", content)})


def test_gqa_pictures_take_a_template_for_numbers_and_for_text(write: Any) -> None:
    content = {"1": {"question": "Is it?", "imageId": "107", "answer": "yes"}}
    path = write("g.json", content)
    assert read_questions({"questions": path, "image_name": "images/{image_id}"})[0].picture == "images/107"
    assert read_questions({"questions": path, "image_name": "scene_{image_id:06d}"})[0].picture == "scene_000107"


def test_visual_genome_answers_take_the_form_of_lxmert(write: Any) -> None:
    content = [
        {"id": 1, "qas": [
            {"a_objects": [], "question": "What color is the clock?", "image_id": 1, "qa_id": 986768,
             "answer": "Green.", "q_objects": []},
            {"question": "Who is there?", "image_id": 1, "qa_id": 986769, "answer": "A man."},
        ]},
        {"id": 2, "qas": []},
    ]  # fmt: skip
    first, second = read_questions({"format": "vg-qa", "questions": write("question_answers.json", content)})
    assert (first.id, first.picture, first.scores, first.answers) == (986768, "1", {"green": 1.0}, ("Green.",))
    assert second.scores == {"man": 1.0}
    assert [accuracy(second, answer) for answer in ("man", "dog")] == [1.0, 0.0], "one annotator's word is enough"
    content[1]["qas"] = 3
    assert "'qas' of pictures[1] is 3" in failure({"questions": write("v.json", content)})


def test_vizwiz_questions_are_named_by_their_pictures(write: Any) -> None:
    content = [
        {"answerable": 1, "image": "VizWiz_val_00028000.jpg", "question": "What is this?", "answer_type": "other",
         "answers": [{"answer": a, "answer_confidence": "yes"} for a in ["beer"] * 8 + ["Beer", "unanswerable"]]},
        {"image": "VizWiz_test_00000001.jpg", "question": "What is that?"},
    ]  # fmt: skip
    first, second = read_questions({"format": "vizwiz", "questions": write("val.json", content)})
    assert (first.id, first.picture, first.answerable) == ("VizWiz_val_00028000.jpg", "VizWiz_val_00028000", True)
    assert first.scores == {"beer": 1.0, "unanswerable": 0.3}
    assert first.answer_ids == ()
    assert (second.scores, second.answerable) == (None, None)
    spec = {"questions": write("val.json", content), "image_name": "val/{image_id}"}
    assert read_questions(spec)[0].picture == "val/VizWiz_val_00028000.jpg"
    content[0]["answerable"] = 2
    assert "'answerable' of questions[0] is 2" in failure({"questions": write("val.json", content)})


def test_every_data_set_is_scored_by_its_own_rule(write: Any) -> None:
    """VizWiz compares annotators' answers as they are, VQA normalises them; LXMERT's lists have nothing but scores."""
    said = [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(["Can"] * 3 + ["box"] * 7)]
    (seen,) = read_questions({"questions": write("v.json", [{"image": "a.jpg", "question": "What?", "answers": said}])})
    asked = {"data_subtype": "x", "questions": [{"image_id": 1, "question": "What?", "question_id": 1}]}
    note = {"annotations": [{"question_id": 1, "image_id": 1, "answers": said}]}
    (vqa,) = read_questions({"questions": write("q.json", asked), "annotations": write("a.json", note)})
    assert [(q.metric, accuracy(q, "can")) for q in (seen, vqa)] == [("vizwiz", 0.0), ("vqa", 0.9)]
    listed = [{"img_id": "1", "question_id": 1, "sent": "What?", "label": {"can": 0.3}}]
    (q,) = read_questions({"questions": write("l.json", listed)})
    assert (q.metric, accuracy(q, "can"), accuracy(q, "box")) == ("soft", 0.3, 0.0)


def test_the_lists_of_lxmert_are_taken_as_given(write: Any) -> None:
    content = [
        {"answer_type": "other", "img_id": "COCO_train2014_000000458752", "label": {"net": 1, "A Net": 0.3, "x": 0},
         "question_id": 458752000, "question_type": "what is this", "sent": "What is this taken looking through?"},
        {"img_id": "2375429", "label": {"pipe": 1.0}, "question_id": "07333408", "sent": "What is on the white wall?"},
        {"img_id": "COCO_test2015_000000262144", "question_id": 262144000, "sent": "Is the ball flying?"},
    ]  # fmt: skip
    first, second, third = read_questions({"questions": write("minival.json", content)})
    assert (first.picture, first.scores) == ("COCO_train2014_000000458752", {"net": 1.0, "A Net": 0.3})
    assert (first.answers, first.answer_type, first.question_type) == ((), "other", "what is this")
    assert (second.id, second.picture) == ("07333408", "2375429")
    assert third.scores is None
    for label in (["net"], {"net": 2}, {"net": "1"}):
        content[0]["label"] = label
        assert "'label' of questions[0]" in failure({"questions": write("l.json", content)})


CAPTIONS = {
    "info": {}, "licenses": [],
    "images": [{"id": 37, "file_name": "COCO_val2014_000000000037.jpg", "height": 4, "width": 5}],
    "annotations": [{"image_id": 37, "id": 98, "caption": "A bus on the road.\n"}],
}  # fmt: skip


def test_captions_find_their_pictures_by_file_name(write: Any) -> None:
    path = write("captions_val2014.json", CAPTIONS)
    expected = Caption(98, "COCO_val2014_000000000037", "A bus on the road.")
    assert read_captions({"format": "coco", "captions": path}) == [expected]
    assert read_captions({"captions": path, "image_name": "{image_id}", "language": "de"}) == [
        Caption(98, "37", "A bus on the road.", "de")
    ]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("image_id", 38, "'image_id' of annotations[0] is 38"),
        ("caption", "", "'caption' of annotations[0] is \"\""),
        ("id", None, "'id' of annotations[0] is absent"),
    ],
)
def test_a_wrong_caption_is_named(write: Any, field: str, value: Any, sentence: str) -> None:
    path = write("c.json", changed(CAPTIONS, "annotations", 0, field, value))
    with pytest.raises(UsageError) as caught:
        read_captions({"captions": path})
    assert sentence in str(caught.value)


def test_captions_of_another_layout_are_refused(write: Any) -> None:
    for spec, sentence in (
        ({"captions": write("q.json", VQA_QUESTIONS)}, "q.json: it has no 'images' and 'annotations'"),
        ({"captions": write("c.json", CAPTIONS), "format": "vqa"}, "there is no format 'vqa' of captions"),
        ({"questions": "q.json"}, "unknown setting 'questions'"),
    ):
        with pytest.raises(UsageError) as caught:
            read_captions(spec)
        assert sentence in str(caught.value)


@pytest.mark.parametrize("name", ["/", ".jpg", "val2014/.jpg"])
def test_a_picture_without_a_name_is_named(write: Any, name: str) -> None:
    path = write("c.json", changed(CAPTIONS, "images", 0, "file_name", name))
    with pytest.raises(UsageError, match=r"'file_name' of images\[0\] is"):
        read_captions({"captions": path})


def test_a_subset_that_is_no_text_is_none(write: Any) -> None:
    path = write("q.json", {**VQA_QUESTIONS, "data_subtype": []})
    assert read_questions({"questions": path})[0].picture == "42"


SENTENCES = {"img_id": "COCO_1", "sentf": {"vqa": ["What is it?", "Why?"]}, "labelf": {"vqa": [{"dog": 1}, {}]}}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{**SENTENCES, "sentf": {"vqa": "abc"}}], "'sentf' of pictures[0] is an object"),
        ([{**SENTENCES, "labelf": [1]}], "'labelf' of pictures[0] is a list of 1"),
        ([{**SENTENCES, "labelf": {"vqa": {"a": 1, "b": 1}}}], "'labelf' of pictures[0] is an object"),
        ([{**SENTENCES, "labelf": {"vqa": [["dog"], {}]}}], "'labelf' of pictures[0] is an object"),
        ([{**SENTENCES, "labelf": {"vqa": [{"dog": 7}, {}]}}], "'labelf' of pictures[0] is an object"),
        ([{**SENTENCES, "sentf": {"vqa": ["What?", 5]}}], "'sentf' of pictures[0] is an object"),
        ([{"img_id": "COCO_1"}], "'sentf' of pictures[0] is absent"),
        ([SENTENCES, SENTENCES], "the id 'COCO_1_vqa_000' comes twice"),
    ],
)
def test_sentences_of_another_layout_are_refused(write: Any, rows: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_sentences({"sentences": write("s.json", rows)})
    assert sentence in str(caught.value)


def test_sentences_carry_the_scores_of_their_set(write: Any) -> None:
    found = read_sentences({"sentences": write("s.json", [SENTENCES])})
    assert [(q.id, q.text, q.scores) for q in found] == [
        ("COCO_1_vqa_000", "What is it?", {"dog": 1.0}), ("COCO_1_vqa_001", "Why?", {}),
    ]  # fmt: skip
