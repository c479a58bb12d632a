"""The readers of grids at their real sizes with random weights: towers, data of a few pictures, tasks; for ``epochs``.

``SMALL`` gives each of them a tiny tower and a tiny trunk, to see that the benchmark works.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import transformers

from featx.clip_mbart.network import Sizes, new_network
from featx.registry import load
from featx.store import create_store, open_part
from featx.task import Task
from featx.text_sources import text_key
from featx.train import seed_everything
from featx_extractors.clip import CLIP
from featx_extractors.towers.seeded import byte_tokenizer

SMALL = os.environ.get("SMALL") == "1"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
HEIGHT, WIDTH = 480, 640  # of a picture, pixels
LANGUAGE = "en"

B32 = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
       "image_size": 224, "patch_size": 32}  # fmt: skip
VLE_B16 = {**B32, "patch_size": 16, "num_hidden_layers": 11}
L14 = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
       "image_size": 336, "patch_size": 14}  # fmt: skip
L14_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
            "vocab_size": 49408, "max_position_embeddings": 77}  # fmt: skip
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@dataclass(frozen=True)
class Case:
    """A consumer. words: word pieces of a text, with both ends. options: of the extractor. deep: parts of the names of
    modules whose output depends on the picture alone, or on the text alone: once the model is not trained any more,
    they could be kept as well. make: folder, pictures, words, store -> task.
    """

    tower: Mapping[str, int]
    make: Callable[[Path, int, int, Path], Task]
    words: int
    options: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = False  # a whole CLIP, with its text tower
    deep: Sequence[str] = ()


def vocabulary(folder: Path, size: int) -> str:
    """A folder with a vocabulary of so many whole words, behind the special ones."""
    size = 500 if SMALL else size
    folder.mkdir(parents=True, exist_ok=True)
    words = [*SPECIAL, *(f"w{i}" for i in range(size - len(SPECIAL)))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return str(folder)


def texts(pictures: int, words: int) -> list[str]:
    """Texts of so many of these words."""
    rng = np.random.default_rng(words)
    return [" ".join(f"w{int(i)}" for i in rng.integers(400, size=words)) for _ in range(pictures)]


def write(path: Path, content: Any) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def answers(folder: Path, count: int) -> str:
    """A list of answers."""
    return write(folder / "answers.json", [f"a{i}" for i in range(count)])


def vqa(folder: Path, pictures: int, words: int) -> dict[str, str]:
    """A question about each picture, in VQA v2's layout."""
    asked = [{"question_id": i, "image_id": i, "question": text} for i, text in enumerate(texts(pictures, words - 2))]
    said = [
        {"question_id": i, "image_id": i, "question_type": "what", "answer_type": "other",
         "multiple_choice_answer": f"a{i}", "answers": [{"answer": f"a{i}", "answer_id": n} for n in range(1, 11)]}
        for i in range(pictures)
    ]  # fmt: skip
    return {
        "questions": write(folder / "questions.json", {"data_subtype": "drawn", "questions": asked}),
        "annotations": write(folder / "annotations.json", {"data_subtype": "drawn", "annotations": said}),
        "image_name": "p{image_id}",
    }


def clip_bert(folder: Path, pictures: int, words: int, store: Path) -> Task:
    """BERT-base with the multilingual vocabulary, 3129 answers."""
    spec = vqa(folder, pictures, words)
    model = {"tokenizer": vocabulary(folder, 105_879), "max_length": words}
    data = {"train": spec, "val": spec, "answers": answers(folder, 3129)}
    return built("clip-bert-vqa", {"model": model | small(layers=1), "data": data, "store": str(store)})


def vle(folder: Path, pictures: int, words: int, store: Path) -> Task:
    """DeBERTa-base and six layers of fusion, 3129 answers."""
    spec = vqa(folder, pictures, words)
    model = {"tokenizer": vocabulary(folder, 128_100), "max_length": words}
    data = {"train": spec, "val": spec, "answers": answers(folder, 3129)}
    return built("vle-vqa", {"model": model | small(layers=[1, 1]), "data": data, "store": str(store)})


def mbart(folder: Path, pictures: int, words: int, store: Path) -> Task:
    """mBART-large's decoder with its 250,054 entries, of which captions use those that a small vocabulary has."""
    rows = [{"id": i, "image_id": i, "caption": text} for i, text in enumerate(texts(pictures, words))]
    images = [{"id": i, "file_name": f"p{i}.jpg"} for i in range(pictures)]
    where = write(folder / "captions.json", {"images": images, "annotations": rows})
    spec = {"captions": where, "language": LANGUAGE}
    options = {"model": {"tokenizer": {"size": 1000}, "max_length": words, "hidden": 32, "layers": 1},
               "data": {"train": spec, "val": spec}, "store": str(store)}  # fmt: skip
    made: Any = built("clip-mbart-captions", options)
    if not SMALL:
        made.model = new_network(Sizes(250_054, made.wants().dim))[0]
    return made


def vizwiz(folder: Path, pictures: int, words: int, store: Path) -> Task:
    """Linear layers for 5726 answers; the questions' embeddings are in a store beside the pictures'."""
    entries = [
        {"image": f"p{i}.jpg", "question": text, "answer_type": "other", "answerable": 1,
         "answers": [{"answer": f"a{i}", "answer_confidence": "yes"}] * 10}
        for i, text in enumerate(texts(pictures, words - 2))
    ]  # fmt: skip
    spec = {"questions": write(folder / "vizwiz.json", entries)}
    data = {"train": spec, "val": spec, "answers": {"file": answers(folder, 5726)}}
    return built("clip-linear-vizwiz", {"texts": str(folder / "texts"), "data": data, "store": str(store)})


def small(**sizes: Any) -> dict[str, Any]:
    """Sizes of a tiny trunk, where one is asked for."""
    return {"hidden": 32, "heads": 2, **sizes} if SMALL else {}


def built(task: str, options: Mapping[str, Any]) -> Task:
    """A task with fresh weights."""
    seed_everything(0)
    made: Task = load("featx.tasks", task).from_options(options)
    return made


PROJECTED = {"tensor": "projected", "dtype": "float32"}
BERT_DEEP = ("model.embeddings.visual_projection",)
MBART_DEEP = ("model.visual_projection", "encoder_attn.k_proj", "encoder_attn.v_proj")
VLE_DEEP = ("vle.text_model", "vle.text_projection_layer", "vle.image_projection_layer")
CASES = {
    "VizWiz linear, L/14@336": Case(L14, vizwiz, 12, PROJECTED, whole=True),
    "CLIP-Vision-BERT, 78 words": Case(B32, clip_bert, 78, deep=BERT_DEEP),
    "CLIP-Vision-BERT, 12 words": Case(B32, clip_bert, 12, deep=BERT_DEEP),
    "mBART50, 64 tokens": Case(B32, mbart, 64, deep=MBART_DEEP),
    "mBART50, 20 tokens": Case(B32, mbart, 20, deep=MBART_DEEP),
    "VLE-base VQA @224": Case(VLE_B16, vle, 12, {"size": 224}, deep=VLE_DEEP),
    "VLE-base VQA @576": Case(VLE_B16, vle, 12, {"size": 576}, deep=VLE_DEEP),
}


def extractor_of(case: Case, folder: Path) -> CLIP:
    """The extractor with a random tower of that form, which is written into ``folder`` first, as a checkpoint is."""
    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        sizes = {**case.tower, **(TINY if SMALL else {})}
        if not case.whole:
            network: Any = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**sizes))
        else:
            words = byte_tokenizer()
            ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
            told = {**L14_TEXT, **(TINY if SMALL else {}), **ends}
            config = transformers.CLIPConfig(text_config=told, vision_config=sizes, projection_dim=768)
            network = transformers.CLIPModel(config)
            words.save_pretrained(folder)
        network.save_pretrained(folder)
    options = {"tensor": "last_hidden_state", "cls": True, **case.options}
    if options["tensor"] == "projected":
        del options["cls"]
    return CLIP.from_options({"weights": str(folder), **options})


def pictures(folder: Path, count: int) -> list[Path]:
    """JPEG files p0.jpg, p1.jpg, ... with smooth noise, about as large as photos are."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, found = np.random.default_rng(0), []
    for i in range(count):
        coarse = cv2.resize(rng.integers(0, 256, (30, 40, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        fine = coarse.astype(np.int16) + rng.integers(-12, 13, coarse.shape)
        found.append(folder / f"p{i}.jpg")
        cv2.imwrite(str(found[-1]), fine.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return found


def text_store(folder: Path, extractor: CLIP, asked: Sequence[str]) -> None:
    """A store of the embeddings of texts, as the extractor clip-text makes it."""
    made = load("featx.extractors", "clip-text").from_options({"weights": extractor.options.weights})
    vectors, schema = extractor.texts(asked), made.schema
    from featx.record import Record

    create_store(folder, "lmdb", schema, made.provenance(), {})
    with open_part(folder) as writer:
        for i, (text, vector) in enumerate(zip(asked, vectors, strict=True)):
            writer.put(text_key(text), Record(vector[None], np.zeros((1, 4), np.float32), (1, 1), 1, {}), i)
        writer.finish()
