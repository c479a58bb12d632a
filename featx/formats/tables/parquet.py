"""Parquet files as Hugging Face ``datasets`` reads them: ``load_dataset("parquet", data_files=...)``.

The columns are those of ``columns``. A row group holds 4 MB, so that reading a picture reads little
more than it; pages carry checksums, which are held against their bytes. The directory of a Parquet file is at its end:
one that was cut cannot be read at all. Of a damaged row group the rows in front of the damage are kept; the others are
told together, as one item.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featx.errors import FeatxError, UsageError
from featx.formats.base import Item, Survey
from featx.formats.description import Description
from featx.formats.naming import Sizes
from featx.formats.options import Options
from featx.formats.publish import published_file
from featx.formats.records import Records
from featx.formats.shards import members, shard_facts
from featx.formats.tables.columns import batches, faults, pyarrow, schema_of
from featx.formats.tables.table import Table

SUFFIX = ".parquet"
_MAGIC = b"PAR1"
_GROUP = 4 << 20  # bytes of records that make a row group
_AT_ONCE = 2 << 20  # bytes that are read at a time
_MOST = 1 << 16  # rows
_BUFFER = 1 << 20
_PAGE = 1 << 18  # bytes: what a damaged byte can cost, and what one column needs in memory


class Parquet(Table):
    """Parquet."""

    name = "parquet"
    title = "Parquet of Hugging Face datasets"
    source = "huggingface/datasets, packaged_modules/parquet; apache/parquet-format"
    suffix = SUFFIX

    def detect(self, path: Path) -> bool:
        """By the columns of its directory, or its first bytes where there is no directory, or no pyarrow."""
        try:
            place = next(iter(members(path, SUFFIX)), path)
            if place.is_dir() or not _is_parquet(place):
                return False
            return self.fits(_opened(place).schema_arrow.names)
        except FeatxError:
            return True
        except OSError:
            return False

    def survey(self, path: Path, options: Options) -> Survey:
        total = sum(1 if isinstance(file, FeatxError) else file.metadata.num_rows for _, file in _sources(path))
        return Survey(int(total), self.facts(path, shard_facts(path, SUFFIX)))

    def describe(self, path: Path) -> Description | None:
        found = next((file for _, file in _sources(path) if not isinstance(file, FeatxError)), None)
        return self.described_by(found.schema_arrow, path) if found else None

    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        sizes, told, number = Sizes.of(options), self.describe(path), 0
        for place, file in _sources(path):
            if isinstance(file, FeatxError):
                if number >= start:
                    yield Item(number, f"file {place.name}", "", None, file.message)
                number += 1
                continue
            prefix = f"{place.name}, " if path.is_dir() else ""
            self.described_by(file.schema_arrow, place)
            columns = self.columns(file.schema_arrow.names, told)
            for group in range(file.num_row_groups):
                end = number + file.metadata.row_group(group).num_rows
                if end > start:
                    at = f"{prefix}row group {group}"
                    for item in self._group(file, group, columns, number, end, at, told, options, sizes):
                        if item.number >= start:
                            yield item
                number = end

    def write(self, records: Records, path: Path, options: Options) -> int:
        pa, number = pyarrow(), 0
        import pyarrow.parquet as pq

        schema = schema_of(Description.of(records))
        with (
            published_file(path) as file,
            pq.ParquetWriter(file, schema, use_dictionary=False, data_page_size=_PAGE, write_page_checksum=True) as out,
        ):
            for batch in batches(records.padded(), schema, _GROUP):
                out.write_batch(batch, row_group_size=batch.num_rows)
                pa.default_memory_pool().release_unused()
                number += batch.num_rows
        return number

    def _group(
        self, file: Any, group: int, columns: list[str], number: int, end: int, place: str, told: Description | None,
        options: Options, sizes: Sizes,
    ) -> Iterator[Item]:  # fmt: skip
        """The rows of a row group, numbers ``number`` to ``end``; those behind a damage are one item."""
        problem, first = "the row group ends before them", number
        facts = file.metadata.row_group(group)
        for size in (min(_MOST, max(1, _AT_ONCE * facts.num_rows // max(facts.total_byte_size, 1))), 1):
            try:
                for batch, begin in _batches(file, group, columns, size, first):
                    for row in range(max(number - begin, 0), min(batch.num_rows, end - begin)):
                        yield self.item(batch, row, begin + row, f"{place}, row {begin + row}", told, options, sizes)
                        number = begin + row + 1
                break
            except faults() as error:  # again, row by row, up to the one that is damaged
                problem = f"{' '.join(str(error).split()):.200}"
        if number < end:
            problem = f"rows {number} to {end - 1} cannot be read: {problem}"
            yield Item(number, f"{place}, row {number}", "", None, problem)


def _batches(file: Any, group: int, columns: list[str], size: int, number: int) -> Iterator[tuple[Any, int]]:
    """The rows of a row group, ``size`` at a time, with the number of the first; page after page is read."""
    for batch in file.iter_batches(size, [group], columns=columns, use_threads=False):
        yield batch, number
        number += batch.num_rows
        pyarrow().default_memory_pool().release_unused()


def _sources(path: Path) -> Iterator[tuple[Path, Any]]:
    """The files of a source, opened; of several, an error in the place of one that cannot be. Raises UsageError."""
    found = members(path, SUFFIX)
    if not any(map(_is_parquet, found)):
        raise UsageError(f"{path} is no Parquet file", "`featx formats` lists what is read")
    for place in found:
        try:
            yield place, _opened(place)
        except UsageError as error:
            if not path.is_dir():
                raise
            yield place, error


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _opened(path: Path) -> Any:
    """A Parquet file whose directory makes sense. Raises UsageError, MissingDependency."""
    pyarrow()
    import pyarrow.parquet as pq

    limit = max(path.stat().st_size, _BUFFER)  # a directory is no longer than the file it is in
    try:
        file = pq.ParquetFile(
            str(path), buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True,
            thrift_string_size_limit=limit, thrift_container_size_limit=limit,
        )  # fmt: skip
        groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        if any(rows < 0 for rows in groups) or sum(groups) != file.metadata.num_rows:
            raise ValueError(f"its row groups have {sum(groups)} rows, the file {file.metadata.num_rows}")
        file.schema_arrow  # noqa: B018  it is made here
    except faults() as error:
        said = " ".join(str(error).split())
        raise UsageError(
            f"{path} has no directory that can be read: {said:.200}",
            "Parquet has it at its end: a file that was cut cannot be read; get it again",
        ) from None
    return file
