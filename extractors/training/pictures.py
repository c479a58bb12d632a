"""The files of annotated pictures: looked at before training, decoded during it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from featx.decode import decode
from featx.decode.header import read_header
from featx.errors import PictureRefused, UsageError
from featx.schema import Array

Size = tuple[int, int]  # height, width


def check_pictures(pictures: Sequence[tuple[Path, Size]], annotations: Path) -> None:
    """Look at every file without decoding it. Raises UsageError that counts the useless ones and names the first.

    Found are files that are absent, cut short, no pictures, or of another size than ``annotations`` says; not what only
    decoding shows, such as damage inside of a JPEG.
    """
    with ThreadPoolExecutor() as pool:
        problems = [text for text in pool.map(_problem, pictures) if text]
    if problems:
        raise UsageError(
            f"{len(problems)} of the {len(pictures)} pictures of {annotations} cannot be used, first {problems[0]}",
            "give the folder of the pictures that were annotated, and take out of the annotations what it has not",
        )


def read_pixels(path: Path, size: Size) -> Array:
    """Upright RGB pixels ``[H, W, 3]`` uint8. Raises UsageError for a file that is no picture of the stated size."""
    try:
        pixels = decode(path.read_bytes())
        problem = "" if pixels.shape[:2] == size else _other_size(path, pixels.shape[0], pixels.shape[1], size)
    except (PictureRefused, OSError) as error:
        problem = _useless(path, error)
    if problem:
        raise UsageError(problem, "replace it by the picture that was annotated, or take it out of the annotations")
    return pixels


def _problem(picture: tuple[Path, Size]) -> str:
    """What is wrong with a file as far as its header shows it; '' for nothing."""
    path, size = picture
    try:
        header = read_header(path.read_bytes())
    except (PictureRefused, OSError) as error:
        return _useless(path, error)
    if header.missing or header.unsupported:
        return f"{path}: {header.unsupported or 'the file breaks off'}"
    found = (header.height, header.width)
    # The sides of a picture that is to be turned upright stand in the header the other way round.
    return "" if sorted(found) == sorted(size) else _other_size(path, *found, size)


def _useless(path: Path, error: PictureRefused | OSError) -> str:
    return f"{path}: {error.message if isinstance(error, PictureRefused) else error.strerror}"


def _other_size(path: Path, height: int, width: int, size: Size) -> str:
    return f"{path} is {height} x {width} (height x width), its annotations say {size[0]} x {size[1]}"
