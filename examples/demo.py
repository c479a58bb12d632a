"""``make demo``: photographs that ship inside scikit-image go through the full-size network and back out.

Extract into a store, verify it, read it back, draw it, write a TSV for LXMERT. With ``--weights`` (a file or hub id)
the labels mean something; without, a seeded network of the real size runs and every picture says that it is untrained.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import featx

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")


def main() -> None:
    """Run the whole story, printing every command before it runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="seeded", help="weights file, folder or hub id (default: untrained)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for everything the demo writes")
    options = parser.parse_args()
    # One store per weights: a store refuses records that were made in another way.
    name = "".join(c if c.isalnum() else "-" for c in options.weights.rstrip("/").split("/")[-1])
    photos, store = write_photos(options.out / "photos"), options.out / f"photos-{name}.featx"
    command("extract", photos, store, "--weights", options.weights, "--boxes", "36")
    command("verify", store)
    command("inspect", store, "chelsea")
    read_back(store)
    for key in PHOTOS:
        command("draw", store, key, "--images", photos, "-o", options.out / f"{key}.png")
    tsv = options.out / "lxmert" / "photos_obj36.tsv"
    tsv.parent.mkdir(exist_ok=True)
    command("convert", store, tsv, "--overwrite")
    print(f"\nLook at the pictures: {', '.join(str(options.out / f'{key}.png') for key in PHOTOS)}")
    if options.weights == "seeded":
        print("The network is seeded, not trained, so boxes and names mean nothing yet. With real weights:")
        print("  make demo WEIGHTS=unc-nlp/frcnn-vg-finetuned     (or a .safetensors, .bin, .pkl, .pth, .caffemodel)")


def write_photos(folder: Path) -> Path:
    """The sample photographs as PNG files."""
    import cv2
    from skimage import data

    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        cv2.imwrite(str(folder / f"{name}.png"), getattr(data, name)()[:, :, ::-1])
    return folder


def read_back(store: Path) -> None:
    """The eight lines a program needs."""
    with featx.open_store(store) as reader:
        keys = list(reader.keys())
        batch = reader.get_batch(keys)
        print(f"\n>>> featx.open_store({str(store)!r}).get_batch({keys})\n{batch!r}")


def command(*words: object) -> None:
    """Run one ``featx`` command in front of the reader's eyes; stop the demo if it fails."""
    line = [str(word) for word in words]
    print(f"\n$ featx {' '.join(line)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "featx", *line], check=False).returncode
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
