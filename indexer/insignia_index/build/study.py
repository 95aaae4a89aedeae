"""One study: chunks of cells in, a finished shard out, with memory bounded by a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.build.errors import CorruptMatrix, DuplicateEntry, NotFiniteValue
from insignia_index.format.files import ShardFiles
from insignia_index.format.layout import BLOCK_CELLS, BLOCK_POSTINGS
from insignia_index.format.writer import GeneStatistics, ShardWriter
from insignia_index.kernels.transpose import BAD_INDEX, count_postings, gene_statistics, scatter_postings

#: Fewer values may be whole numbers by chance.
_MANY_POSTINGS = 1_000


@dataclass(frozen=True, slots=True)
class StudyRows:
    """Rows of one study: names for messages, genes for the columns, and CSR chunks in row order."""

    path: Path
    study: str
    cell_ids: list[str]
    gene_of_column: npt.NDArray[np.int64]
    chunks: Iterator[Any]


@dataclass(frozen=True, slots=True)
class BuiltShard:
    """A finished shard. ``is_whole``: its values, of which there are many, are whole numbers."""

    files: ShardFiles
    n_postings: int
    signed: bool
    is_whole: bool


class PostingBuffer:
    """Postings of the block being filled, by chunk and gene. Reused from block to block."""

    def __init__(self, n_genes: int) -> None:
        self.n_genes = n_genes
        self._ids = np.empty(0, np.uint16)
        self._values = np.empty(0, np.float32)
        self._last_id = np.empty(n_genes, np.int64)
        self.clear()

    def clear(self) -> None:
        """Begin a new block."""
        self.n_cells = 0
        self.n_postings = 0
        self.starts: list[npt.NDArray[np.int64]] = []
        self._last_id[:] = -1

    def takes(self, n_cells: int, n_postings: int) -> bool:
        """Whether a chunk still fits into the block."""
        if self.n_cells == 0:
            return True
        return self.n_cells + n_cells <= BLOCK_CELLS and self.n_postings + n_postings <= BLOCK_POSTINGS

    def add(self, chunk: Any, counts: npt.NDArray[np.int64], gene_of_column: npt.NDArray[np.int64]) -> int:
        """Add a chunk whose genes have ``counts`` non-zeros; returns a row with a repeated gene, or -1."""
        starts = self.n_postings + np.concatenate([[0], np.cumsum(counts)])
        self._reserve(int(starts[-1]))
        row = scatter_postings(
            chunk.indptr, chunk.indices, chunk.data, gene_of_column,
            self.n_cells, starts[:-1].copy(), self._ids, self._values, self._last_id,
        )  # fmt: skip
        self.starts.append(starts)
        self.n_cells += len(chunk.indptr) - 1
        self.n_postings = int(starts[-1])
        return int(row)

    def write(self, writer: ShardWriter) -> None:
        """Write the block, if it has cells, and begin a new one."""
        if self.n_cells:
            chunk_starts = np.array(self.starts)
            writer.add_block(self.n_cells, chunk_starts, self._ids, self._values)
            self.clear()

    def _reserve(self, n: int) -> None:
        if n > len(self._ids):
            # half as much again: a block grows by chunks, and copying each time would be quadratic
            room = min(max(n, len(self._ids) * 3 // 2), max(n, BLOCK_POSTINGS))
            for name in ("_ids", "_values"):
                old = getattr(self, name)
                new = np.empty(room, old.dtype)
                new[: self.n_postings] = old[: self.n_postings]
                setattr(self, name, new)


def build_shard(
    rows: StudyRows,
    directory: Path,
    buffer: PostingBuffer,
    value_bits: int,
    advance: Callable[[int], None],
) -> BuiltShard:
    """Write the postings of a study into ``directory``; ``advance`` is told the cells done."""
    writer = ShardWriter(directory, buffer.n_genes, value_bits)
    statistics = GeneStatistics(buffer.n_genes)
    negative, is_whole = False, True
    buffer.clear()
    first_row = 0
    try:
        for chunk in rows.chunks:
            counts = _checked_counts(rows, chunk, first_row, buffer.n_genes)
            negative |= gene_statistics(
                chunk.indptr, chunk.indices, chunk.data, rows.gene_of_column,
                statistics.n_cells, statistics.total, statistics.maximum,
            )  # fmt: skip
            # attributions say no at once
            is_whole = is_whole and bool((chunk.data == np.rint(chunk.data)).all())
            n_cells = len(chunk.indptr) - 1
            if not buffer.takes(n_cells, int(counts.sum())):
                buffer.write(writer)
            repeated = buffer.add(chunk, counts, rows.gene_of_column)
            if repeated >= 0:
                raise DuplicateEntry(rows.path, rows.study, rows.cell_ids[first_row + repeated])
            first_row += n_cells
            advance(n_cells)
        buffer.write(writer)
        n_postings = writer.n_postings
        is_whole = is_whole and n_postings >= _MANY_POSTINGS
        return BuiltShard(writer.finish(statistics), n_postings, bool(negative), is_whole)
    finally:
        writer.close()


def _checked_counts(rows: StudyRows, chunk: Any, first_row: int, n_genes: int) -> npt.NDArray[np.int64]:
    counts = np.zeros(n_genes, np.int64)
    fault, row = count_postings(chunk.indptr, chunk.indices, chunk.data, rows.gene_of_column, counts)
    if fault == BAD_INDEX:
        raise CorruptMatrix(rows.path, f"cell {rows.cell_ids[first_row + row]!r} has a column out of range")
    if fault:
        raise NotFiniteValue(rows.path, rows.study, rows.cell_ids[first_row + row])
    return counts
