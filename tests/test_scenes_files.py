"""The files of drawn scenes: each in its layout, answers and captions that are true."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from featx.data import read_captions, read_questions
from featx.scenes import write_scenes
from tests.scenes_drawn import SEED, TRAIN, VAL, draw_folder, load
from tests.scenes_oracle import is_true, read_things, solve


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("drawn") / "scenes")


def test_every_picture_has_the_size_that_the_files_say(folder: Path) -> None:
    for split, count in (("train", TRAIN), ("val", VAL)):
        images = load(folder / f"annotations/instances_{split}.json")["images"]
        assert len(images) == count == len(list((folder / split).glob("*.jpg")))
        for image in images:
            pixels = cv2.imread(str(folder / split / image["file_name"]))
            assert pixels.shape == (image["height"], image["width"], 3)
            assert min(pixels.shape[:2]) >= 240


def test_instances_have_the_layout_of_visual_genome_in_coco_form(folder: Path) -> None:
    for split in ("train", "val"):
        content = load(folder / f"annotations/instances_{split}.json")
        assert [c["id"] for c in content["categories"]] == list(range(1, 17))
        assert [c["id"] for c in content["attCategories"]] == list(range(13))
        names = [c["name"] for c in content["attCategories"]]
        images = {image["id"]: image for image in content["images"]}
        assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"])
        for box in content["annotations"]:
            x, y, w, h = box["bbox"]
            image = images[box["image_id"]]
            assert 0 <= x < x + w <= image["width"]
            assert 0 <= y < y + h <= image["height"]
            assert 0 < box["area"] <= w * h
            assert box["iscrowd"] == 0
            colour, pattern, size = box["attribute_ids"]
            assert names.index("plain") > colour >= 0
            assert names[pattern] in ("plain", "striped", "dotted")
            assert names[size] in ("small", "large")


def test_ids_of_pictures_and_questions_are_unique_over_both_splits(folder: Path) -> None:
    pictures = [i["id"] for s in ("train", "val") for i in load(folder / f"annotations/instances_{s}.json")["images"]]
    assert len(set(pictures)) == TRAIN + VAL
    questions = [
        q["question_id"] for s in ("train", "val") for q in load(folder / f"vqa/questions_{s}_en.json")["questions"]
    ]
    assert len(set(questions)) == len(questions)


def test_every_answer_is_what_an_independent_reader_finds_in_the_boxes(folder: Path) -> None:
    for split in ("train", "val"):
        things = read_things(load(folder / f"annotations/instances_{split}.json"))
        answers = load(folder / f"vqa/annotations_{split}_en.json")["annotations"]
        truth = {a["question_id"]: a["multiple_choice_answer"] for a in answers}
        for q in load(folder / f"vqa/questions_{split}_en.json")["questions"]:
            assert solve(q["question"], things[q["image_id"]]) == truth[q["question_id"]], q


def test_vqa_files_have_the_official_layout_and_agree_over_languages(folder: Path) -> None:
    annotations = load(folder / "vqa/annotations_val_en.json")["annotations"]
    for language in ("en", "fr", "de", "es"):
        questions = load(folder / f"vqa/questions_val_{language}.json")
        assert {"info", "task_type", "data_type", "data_subtype", "questions"} <= set(questions)
        assert [q["question_id"] for q in questions["questions"]] == [a["question_id"] for a in annotations]
        assert load(folder / f"vqa/annotations_val_{language}.json")["annotations"] == annotations
    for a in annotations:
        assert a["question_type"] in ("existence", "counting", "attribute", "object", "spatial", "comparison")
        assert a["answer_type"] in ("yes/no", "number", "other")
        assert [x["answer_id"] for x in a["answers"]] == list(range(1, 11))
        assert Counter(x["answer"] for x in a["answers"]).most_common(1)[0][0] == a["multiple_choice_answer"]
        assert {x["answer_confidence"] for x in a["answers"]} <= {"yes", "maybe", "no"}


def test_gqa_files_have_the_layout_of_gqa_and_full_sentences(folder: Path) -> None:
    content = load(folder / "gqa/train_balanced_questions.json")
    assert len(content) > 10 * TRAIN
    vqa = {str(q["question_id"]): q["question"] for q in load(folder / "vqa/questions_train_en.json")["questions"]}
    for number, q in content.items():
        assert q["question"] == vqa[number]
        assert (folder / "train" / f"{q['imageId']}.jpg").is_file()
        assert q["types"]["structural"] in ("verify", "query", "choose", "logical", "compare")
        assert q["types"]["semantic"] in ("obj", "attr", "cat", "rel", "global")
        assert q["isBalanced"] is True
        assert q["fullAnswer"].endswith(".")
        words = q["fullAnswer"].lower().replace(",", "").replace(".", "").split()
        assert q["answer"] in words, q
    assert not any(q["question"].startswith("How many") for q in content.values()), "GQA does not count"


def test_lxmert_files_have_the_layout_and_the_scores_of_lxmert(folder: Path) -> None:
    content = load(folder / "lxmert/val.json")
    truth = {a["question_id"]: a for a in load(folder / "vqa/annotations_val_en.json")["annotations"]}
    assert len(content) == len(truth)
    scores = {0.3, 0.6, 0.9, 1}  # of one, two, three and at least four of ten annotators
    for q in content:
        assert set(q) == {"answer_type", "img_id", "label", "question_id", "question_type", "sent"}
        assert q["label"][truth[q["question_id"]]["multiple_choice_answer"]] == 1
        assert set(q["label"].values()) <= scores
        assert (folder / "val" / f"{q['img_id']}.jpg").is_file()


def test_every_english_caption_is_true_of_the_boxes(folder: Path) -> None:
    for split in ("train", "val"):
        things = read_things(load(folder / f"annotations/instances_{split}.json"))
        for a in load(folder / f"captions/captions_{split}_en.json")["annotations"]:
            assert is_true(a["caption"], things[a["image_id"]]), a


@pytest.mark.parametrize("language", ["fr", "de", "es"])
def test_gqa_and_lxmert_ask_the_same_in_other_languages_and_are_answered_in_english(
    folder: Path, language: str
) -> None:
    vqa = {q["question_id"]: q["question"] for q in load(folder / f"vqa/questions_val_{language}.json")["questions"]}
    english = load(folder / "gqa/val_balanced_questions.json")
    asked = {number: {**q, "question": vqa[int(number)]} for number, q in english.items()}
    assert load(folder / f"gqa/val_balanced_questions_{language}.json") == asked != english
    lists = load(folder / "lxmert/val.json")
    sent = [{**q, "sent": vqa[q["question_id"]]} for q in lists]
    assert load(folder / f"lxmert/val_{language}.json") == sent != lists


@pytest.mark.parametrize("language", ["en", "fr", "de", "es"])
def test_there_are_two_captions_in_each_language(folder: Path, language: str) -> None:
    content = load(folder / f"captions/captions_val_{language}.json")
    count = Counter(a["image_id"] for a in content["annotations"])
    assert set(count) == {image["id"] for image in content["images"]}
    assert set(count.values()) == {2}
    for a in content["annotations"]:
        assert a["caption"][0].isupper()
        assert a["caption"].endswith(".")
        assert "  " not in a["caption"]


@pytest.mark.parametrize("language", ["en", "fr", "de", "es"])
def test_pictures_to_test_on_have_twenty_references_more(folder: Path, language: str) -> None:
    content = load(folder / f"captions/references_val_{language}.json")
    assert content["images"] == load(folder / f"captions/captions_val_{language}.json")["images"]
    assert set(Counter(a["image_id"] for a in content["annotations"]).values()) == {20}
    assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"])
    assert not list(folder.glob("captions/references_train*"))


def test_the_readers_of_featx_understand_every_file(folder: Path) -> None:
    vqa = read_questions(
        {
            "questions": str(folder / "vqa/questions_val_fr.json"),
            "annotations": str(folder / "vqa/annotations_val_fr.json"),
            "image_name": "scene_{image_id:012d}",
            "language": "fr",
        }
    )
    gqa = read_questions({"questions": str(folder / "gqa/val_balanced_questions_es.json"), "language": "es"})
    lxmert = read_questions({"questions": str(folder / "lxmert/val_de.json"), "language": "de"})
    captions = read_captions({"captions": str(folder / "captions/captions_val_de.json"), "language": "de"})
    keys = {path.stem for path in (folder / "val").glob("*.jpg")}
    for questions in (vqa, gqa, lxmert):
        assert {q.picture for q in questions} == keys
    assert {c.picture for c in captions} == keys
    labels = {q.id: q.scores for q in lxmert}
    assert all(max(q.scores or {0: 0}, key=lambda a: (q.scores or {})[a]) in (labels[q.id] or {}) for q in vqa)


def test_the_card_says_how_to_make_it_again_and_counts_right(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert f"featx scenes OUT --train {TRAIN} --val {VAL} --seed {SEED} --languages en,fr,de,es" in card
    boxes = len(load(folder / "annotations/instances_train.json")["annotations"])
    assert f"| train | {TRAIN} | {boxes} |" in card
    families = Counter(
        a["question_type"]
        for s in ("train", "val")
        for a in load(folder / f"vqa/annotations_{s}_en.json")["annotations"]
    )
    for family, count in families.items():
        assert f"| {family} | {count} |" in card


def test_the_card_names_every_file(folder: Path) -> None:
    names = re.findall(r"`([^`]*[/*][^`]*)`", (folder / "README.md").read_text())
    there = {p for p in folder.rglob("*") if p.is_file() and p.parent != folder}
    named = {p for name in names for found in folder.glob(name.rstrip("/")) for p in (found, *found.glob("*"))}
    assert there <= named


def test_only_the_languages_that_were_asked_for_are_written(tmp_path: Path) -> None:
    write_scenes(tmp_path / "s", 1, 0, 0, ["es"], workers=1)
    assert sorted(p.name for p in (tmp_path / "s/vqa").glob("*train*")) == [
        "annotations_train_es.json", "questions_train_es.json",
    ]  # fmt: skip
    for place in ("captions", "gqa", "lxmert"):
        assert np.all([p.name.endswith("_es.json") for p in (tmp_path / "s" / place).iterdir()])


def test_english_names_of_gqa_and_lxmert_are_theirs(tmp_path: Path) -> None:
    write_scenes(tmp_path / "s", 1, 0, 0, ["en"], workers=1)
    names = sorted(
        str(p.relative_to(tmp_path / "s")) for place in ("gqa", "lxmert") for p in (tmp_path / "s" / place).iterdir()
    )
    assert names == [
        "gqa/train_balanced_questions.json", "gqa/val_balanced_questions.json", "lxmert/train.json", "lxmert/val.json",
    ]  # fmt: skip
