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
from featx.formats.base import Item
from featx.formats.description import Description
from featx.formats.options import Options
from featx.formats.publish import published_file
from featx.formats.records import Records
from featx.formats.tables.columns import batches, faults, pyarrow, schema_of
from featx.formats.tables.table import ItemOf, Piece, Source, Table

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
    suffix = ending = ".parquet"
    kind = "Parquet file"

    def begins(self, path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC

    def opened(self, path: Path) -> Source:
        """One whose directory makes sense."""
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
            schema = file.schema_arrow
        except faults() as error:
            said = " ".join(str(error).split())
            raise UsageError(
                f"{path} has no directory that can be read: {said:.200}",
                "Parquet has it at its end: a file that was cut cannot be read; get it again",
            ) from None
        return Source(path, schema, file)

    def likely(self, error: FeatxError) -> bool:
        return True

    def pieces(self, source: Source) -> Iterator[Piece]:
        for group in range(source.data.num_row_groups):
            if rows := source.data.metadata.row_group(group).num_rows:
                yield Piece(f"row group {group}", rows, group)

    def items(self, source: Source, piece: Piece, columns: list[str], number: int, item: ItemOf) -> Iterator[Item]:
        """The rows of a row group; those behind a damage are one item."""
        problem, first, end = "the row group ends before them", number, number + piece.items
        size = _AT_ONCE * piece.items // max(source.data.metadata.row_group(piece.part).total_byte_size, 1)
        for most in (min(_MOST, max(1, size)), 1):
            try:
                for batch, begin in _batches(source.data, piece.part, columns, most, first):
                    for row in range(max(number - begin, 0), min(batch.num_rows, end - begin)):
                        yield item(batch, row, begin + row, f"{piece.place}, row {begin + row}")
                        number = begin + row + 1
                break
            except faults() as error:  # again, row by row, up to the one that is damaged
                problem = f"{' '.join(str(error).split()):.200}"
        if number < end:
            problem = f"rows {number} to {end - 1} cannot be read: {problem}"
            yield Item(number, f"{piece.place}, row {number}", "", None, problem)

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


def _batches(file: Any, group: int, columns: list[str], size: int, number: int) -> Iterator[tuple[Any, int]]:
    """The rows of a row group, ``size`` at a time, with the number of the first; page after page is read."""
    for batch in file.iter_batches(size, [group], columns=columns, use_threads=False):
        yield batch, number
        number += batch.num_rows
        pyarrow().default_memory_pool().release_unused()
