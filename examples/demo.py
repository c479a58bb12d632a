"""``make demo``: the whole story on pictures that featx draws itself, so nothing has to be downloaded.

Draw scenes, extract their regions with the trained tiny detector into an LMDB store, fine-tune LXMERT on the store,
compare it with a model that cannot see, ask questions, and leave one picture with boxes, question and answer. With
``--weights`` (a file or hub id) four photographs also go through that full-size detector.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import featx

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the whole story, printing every command before it runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", help="also extract photographs with these weights (file, folder or hub id)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for everything the demo writes")
    options = parser.parse_args()
    begin, out = time.monotonic(), options.out
    scenes = out / "scenes"
    command("scenes", scenes, "--train", 500, "--val", 150, "--seed", 2026, "--languages", "en")
    for split in ("train", "val"):
        command("extract", scenes / split, out / f"{split}.featx", "--weights", "tiny", "--key-rule", "stem")
    command("verify", out / "val.featx")
    read_back(out / "val.featx")
    learn(out)
    ask(out, *interesting(scenes))
    if options.weights:
        photographs(out, options.weights)
    print(f"\nThat took {time.monotonic() - begin:.0f} s. Look at {out / 'answer.png'}")


def learn(out: Path) -> None:
    """Fine-tune from the shipped checkpoint and, as a control, the same model with its features set to zero."""
    runs = {"sees the picture": ("lxmert", []), "reads only the question": ("blind", ["--set", "zero_features=true"])}
    scores = {}
    for title, (name, flags) in runs.items():
        command("train", ROOT / "configs/lxmert_demo.yaml", "--out", out / name, *flags, *places(out))
        scores[title] = best(out / name)
    print("\nVQA accuracy on held-out scenes, both fine-tuned from the shipped checkpoint:")
    for title, score in scores.items():
        print(f"  {title:<26}{score:5.1f} %")


def places(out: Path) -> list[str]:
    """Where the data is, for a demo in a folder other than the configuration's."""
    if out == Path("demo"):
        return []
    found = {f"store.{split}": out / f"{split}.featx" for split in ("train", "val")}
    found |= {
        f"data.{split}.{kind}": out / f"scenes/vqa/{kind}_{split}_en.json"
        for split in ("train", "val")
        for kind in ("questions", "annotations")
    }
    return [word for name, path in found.items() for word in ("--set", f"{name}={path}")]


def best(run: Path) -> float:
    """The best accuracy that a run has logged, in percent."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return max(float(line["figures"]["accuracy"]) for line in lines if line["event"] == "evaluation")


def interesting(scenes: Path) -> tuple[str, list[str]]:
    """A picture with many things in it, and a question of three families about it."""
    boxes = json.loads((scenes / "annotations/instances_val.json").read_text())["annotations"]
    counts: dict[int, int] = {}
    for box in boxes:
        counts[box["image_id"]] = counts.get(box["image_id"], 0) + 1
    picture = max(counts, key=lambda image: (counts[image], -image))
    questions = json.loads((scenes / "lxmert/val.json").read_text())
    key = f"scene_{picture:012d}"
    asked = {q["question_type"]: q["sent"] for q in questions if q["img_id"] == key}
    return key, [asked[family] for family in ("spatial", "counting", "attribute") if family in asked]


def ask(out: Path, key: str, questions: list[str]) -> None:
    """Ask the model that was just trained; the first question is drawn."""
    model = ("--model", out / "lxmert/best")
    for question in questions[1:]:
        command("ask", out / "val.featx", key, question, "--top-k", 3, *model)
    drawn = ("--draw", out / "answer.png", "--images", out / "scenes/val")
    command("ask", out / "val.featx", key, questions[0], "--top-k", 3, *model, *drawn)


def photographs(out: Path, weights: str) -> None:
    """Photographs that ship inside scikit-image through a full-size detector, drawn, and as a TSV for LXMERT."""
    # One store per weights: a store refuses records that were made in another way.
    name = "".join(c if c.isalnum() else "-" for c in weights.rstrip("/").split("/")[-1])
    photos, store = write_photos(out / "photos"), out / f"photos-{name}.featx"
    command("extract", photos, store, "--weights", weights, "--boxes", "36")
    for key in PHOTOS:
        command("draw", store, key, "--images", photos, "-o", out / f"{key}.png")
    tsv = out / "lxmert_tsv" / "photos_obj36.tsv"
    tsv.parent.mkdir(exist_ok=True)
    command("convert", store, tsv, "--overwrite")


def write_photos(folder: Path) -> Path:
    """The sample photographs as PNG files."""
    import cv2
    from skimage import data

    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        cv2.imwrite(str(folder / f"{name}.png"), getattr(data, name)()[:, :, ::-1])
    return folder


def read_back(store: Path) -> None:
    """The four lines a program needs."""
    with featx.open_store(store) as reader:
        keys = list(reader.keys())[:3]
        batch = reader.get_batch(keys)
        print(f"\n>>> featx.open_store({str(store)!r}).get_batch({keys})\n{batch!r}")


def command(*words: object) -> None:
    """Run one ``featx`` command in front of the reader's eyes; stop the demo if it fails."""
    line = [str(word) for word in words]
    print(f"\n$ {shlex.join(['featx', *line])}", flush=True)
    code = subprocess.run([sys.executable, "-m", "featx", *line], check=False).returncode
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
