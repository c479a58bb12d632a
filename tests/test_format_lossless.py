"""What every format that loses nothing is held to: stores come back, the published file too, and damage is told."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given

from featx.formats import Format, Options, get
from featx.schema import Schema, region_schema
from tests.lossless import SCHEMAS, comes_back, damaged, damages, export, golden_comes_back, make, use
from tests.table_files import groups, several
from tests.tar_files import sample


class Case(NamedTuple):
    """A format under test.

    needs: a package. schema: of a small store whose file is to be damaged. foreign: from that file and a folder to the
    contents that are. fronts: bytes are changed in such parts of them.
    """

    form: Format
    foreign: Callable[[bytes, Path], list[bytes]]
    needs: str = "featx"
    schema: Schema = SCHEMAS["float32"]
    fronts: tuple[float, ...] = (1,)


CASES = {
    "arrow": Case(get("arrow"), lambda ours, folder: [ours + several(folder / "x", 4).read_bytes()], "pyarrow"),
    "parquet": Case(get("parquet"), lambda ours, folder: [ours, groups(folder / "x", 4).read_bytes()], "pyarrow"),
    "safetensors": Case(
        get("safetensors"),
        lambda ours, folder: [ours],
        schema=region_schema(4, "float16", attributes=False),
        fronts=(0.5, 1),  # half of these few bytes are the header
    ),
    "webdataset": Case(get("webdataset"), lambda ours, folder: [ours, sample("a/b") + sample("c")]),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    pytest.importorskip(found.needs, reason=f"the package {found.needs} is not installed")
    return found


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_store_comes_back_to_the_bit(tmp_path: Path, case: Case, schema: Schema) -> None:
    comes_back(case.form, make(tmp_path / "s", schema), tmp_path / f"x{case.form.suffix}", tmp_path / "again")


@pytest.mark.parametrize(("name", "options"), [("safetensors", Options()), ("webdataset", Options(shard_size=12000))])
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_store_comes_back_from_a_folder_of_files(
    tmp_path: Path, schema: Schema, name: str, options: Options
) -> None:
    comes_back(get(name), make(tmp_path / "s", schema), tmp_path / "folder", tmp_path / "again", options)


def test_the_golden_file_comes_back_byte_for_byte(shared: Path, tmp_path: Path, case: Case) -> None:
    golden_comes_back(case.form, shared, tmp_path, tmp_path / f"x{case.form.suffix}")


@pytest.fixture(scope="module")
def small(case: Case, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("small")
    ours = export(case.form, make(folder / "s", case.schema), folder / f"y{case.form.suffix}")
    return case.foreign(ours.read_bytes(), folder)


@given(damage=damages())
def test_no_damage_ends_in_anything_but_a_clear_error(case: Case, small: list[bytes], damage: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{case.form.suffix}"
        for data in small:
            for front in case.fronts:
                path.write_bytes(damaged(data, damage, front))
                use(case.form, path)
