"""Pictures named by something else: a COCO or VQAv2 JSON file, or the index of a tar."""

from __future__ import annotations

import json
import posixpath
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from featx.errors import PictureRefused, UsageError
from featx.images.keys import Found
from featx.images.source import Blob, filesystem
from featx.images.tree import is_picture

# How the pictures of a VQAv2 subset are named on disk. The 2015 test-dev questions are asked of test2015.
_VQA_NAMES = {
    subset: f"COCO_{folder}_{{image_id:012d}}.jpg"
    for subset, folder in {
        "train2014": "train2014",
        "val2014": "val2014",
        "test2015": "test2015",
        "test-dev2015": "test2015",
    }.items()
}
Place = Callable[[str], Blob]


def from_json(blob: Blob, place: Place, image_name: str | None) -> Iterator[Found]:
    """Pictures of a COCO instances or captions file, or of a VQAv2 questions file, in its order.

    ``place`` turns a file name of the list into its blob; ``image_name`` is a template such as
    ``COCO_val2014_{image_id:012d}.jpg`` for lists that name pictures by id only. A picture that several
    questions ask about comes once. Raises UsageError for a file of another shape.
    """
    content = _load(blob)
    if isinstance(content.get("images"), list):
        rows = _coco_rows(content["images"], blob)
    elif isinstance(content.get("questions"), list):
        rows = _vqa_rows(content, blob, image_name)
    else:
        raise UsageError(
            f"{blob.location} holds {', '.join(map(repr, list(content)[:6])) or 'nothing'}; expected 'images' "
            "(COCO) or 'questions' (VQAv2)",
            "convert it to one of the two, or pass the paths on stdin",
        )
    for listed_id, name in rows:
        yield Found(name, place(name), listed_id=listed_id)


def _load(blob: Blob) -> dict[str, Any]:
    try:
        content = json.loads(blob.read())
    except PictureRefused as error:
        raise UsageError(error.message, "check the name of the list") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{blob.location} is not JSON: {error}", "download or write it again") from None
    if not isinstance(content, dict):
        raise UsageError(
            f"{blob.location} holds a JSON {type(content).__name__}, expected an object with 'images' or 'questions'",
            "pass a plain list of paths on stdin",
        )
    return content


def _coco_rows(images: list[Any], blob: Blob) -> Iterator[tuple[str, str]]:
    for position, image in enumerate(images):
        name = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not name:
            raise UsageError(
                f"image {position} of {blob.location} has no 'file_name'", "expected the COCO layout of 'images'"
            )
        yield str(image.get("id", "")), name


def _vqa_rows(content: dict[str, Any], blob: Blob, image_name: str | None) -> Iterator[tuple[str, str]]:
    subset = content.get("data_subtype")
    template = image_name or _VQA_NAMES.get(str(subset))
    if template is None:
        raise UsageError(
            f"{blob.location} names pictures by id and its data_subtype is {subset!r}; "
            f"file names are known for {', '.join(_VQA_NAMES)}",
            "give the template of its file names, such as --image-name 'COCO_val2014_{image_id:012d}.jpg'",
        )
    for number in dict.fromkeys(_image_id(q, i, blob) for i, q in enumerate(content["questions"])):
        yield str(number), _fill(template, number)


def _image_id(question: Any, position: int, blob: Blob) -> int:
    number = question.get("image_id") if isinstance(question, dict) else None
    if type(number) is not int:
        raise UsageError(
            f"question {position} of {blob.location} has image_id {number!r}, expected an integer",
            "expected the VQAv2 layout of 'questions'",
        )
    return number


def _fill(template: str, number: int) -> str:
    try:
        name = template.format(image_id=number)
    except (LookupError, ValueError, AttributeError) as error:
        raise UsageError(
            f"image name template {template!r} cannot be filled in: {error!r}",
            "use image_id only, as in 'COCO_val2014_{image_id:012d}.jpg'",
        ) from None
    if str(number) not in name:
        raise UsageError(
            f"image name template {template!r} gives {name!r} for image {number}: the id is not in it",
            "put {image_id} or {image_id:012d} into --image-name",
        )
    return name


def from_tar(path: str, skipped: Counter[str]) -> Iterator[Found]:
    """Pictures of an uncompressed tar, in its order, each with its offset so that reading never scans again.

    Links, folders and members without a picture suffix are counted in ``skipped``. Raises UsageError for
    a file that is no plain tar or breaks off inside a member.
    """
    shard = posixpath.basename(path).removesuffix(".tar")
    try:
        with _open(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    skipped["link or special file in a tar"] += 1
                elif not is_picture(member.name) or posixpath.basename(member.name).startswith("."):
                    skipped["not a picture suffix"] += 1
                else:
                    name = member.name.removeprefix("./")
                    yield Found(name, Blob(path, (member.offset_data, member.size), name), shard)
            _check_end(tar, path)
    except (tarfile.TarError, EOFError) as error:
        raise UsageError(
            f"{path} is not a readable, uncompressed tar: {error}",
            "decompress it (gunzip, unzstd) or copy it again",
        ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}", "check the name of the tar") from None


def _open(path: str) -> BinaryIO:
    if "://" in path:
        files, inner = filesystem(path)
        return cast(BinaryIO, files.open(inner, "rb"))
    return Path(path).open("rb")


def _check_end(tar: tarfile.TarFile, path: str) -> None:
    """tarfile takes a damaged header for the end of the archive; a true end is zeros, or the end of the file."""
    file = cast(BinaryIO, tar.fileobj)
    file.seek(tar.offset)
    rest = file.read(tarfile.BLOCKSIZE)
    if rest.strip(b"\0"):
        raise UsageError(f"{path} has a damaged header at byte {tar.offset}", "copy or write the tar again")
