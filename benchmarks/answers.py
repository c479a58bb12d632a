"""How many answers of the default LXMERT change when the features it reads were stored in a coarser dtype.

The features of 500 drawn pictures of a seed that no recipe used, extracted by the default detector once for each dtype,
and the 8950 questions about them. Two minutes on one core.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks.learning import HELD_OUT, NAMES, ROOT, WORK, featx, scenes
from benchmarks.timing import save, table
from featx.schema import FEATURE_DTYPES

SEED = 7


def main() -> None:
    """Print the table and write ``results/answers.json``."""
    folder = scenes(f"held-out-{SEED}", SEED, 1, HELD_OUT)
    exact, _ = answers("float32", folder)
    if not exact:
        sys.exit("there is no question to answer")
    found, rows = {}, [("features", "VQA accuracy, %", "answers that differ", "of")]
    for dtype in ("float32", *(d for d in FEATURE_DTYPES if d != "float32")):
        given, accuracy = answers(dtype, folder)
        changed = sum(given[question] != answer for question, answer in exact.items())
        found[dtype] = {"accuracy": accuracy, "changed": changed, "questions": len(exact)}
        rows.append((dtype, f"{accuracy:.2f}", str(changed), str(len(exact))))
    print("\n" + table(rows))
    print("\nwrote", save("answers", {"seed": SEED, "scenes": HELD_OUT, "features": found}))


def answers(dtype: str, folder: Any) -> tuple[dict[int, str], float]:
    """Answers by question, and their accuracy in percent, from a store with features of ``dtype``."""
    store, out = folder / f"val-{dtype}.featx", WORK / f"answers-{dtype}.json"
    questions, truth = (folder / f"vqa/{kind}_val_en.json" for kind in ("questions", "annotations"))
    featx("extract", folder / "val", store, "--weights", "tiny", "--key-rule", "stem", "--dtype", dtype)
    featx("predict", "default", store, questions, "--image-name", NAMES, "-o", out)
    report: dict[str, Any] = json.loads(featx("evaluate", out, questions, truth, "--json"))
    given = {answer["question_id"]: answer["answer"] for answer in json.loads((ROOT / out).read_text())}
    return given, float(report["overall"])
