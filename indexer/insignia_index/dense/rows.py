"""``<shard>.rows``: the postings of a study by cell, to score candidates from (docs/format.md)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.format.layout import aligned
from insignia_index.format.reader import Shard, map_file
from insignia_index.kernels.directory import N_CELLS
from insignia_index.kernels.row_writer import row_lengths, write_narrow, write_wide
from insignia_index.kernels.rows import HEAD, project_narrow, project_wide, read_narrow, read_wide
from insignia_model.errors import AtlasCorrupt

MAGIC = b"INSGROW2"
#: Marks of earlier versions, which `insignia retrain` makes anew.
_EARLIER = (b"INSGROW1",)
FILE_HEAD = np.dtype(
    [
        ("magic", "S8"),
        ("n_cells", "<u8"),
        ("tail_bytes", "<u8"),
        ("wide", "<u4"),
        ("head", "<u4"),
        ("n_genes", "<u4"),  # length of the vocabulary when it was written
    ]
)
_LARGEST_NARROW_GENE = 1 << 16
_LEAST, _MOST = -128, 127
#: Rows that are projected together: their sums take some hundred kilobytes.
_PROJECTED = 512


@dataclass(frozen=True, slots=True)
class _Block:
    heads: npt.NDArray[Any]
    tails: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    exponents: npt.NDArray[np.int8]


def is_wide(n_genes: int, value_bits: int) -> bool:
    """Whether rows need 32 bits for a gene or a value."""
    return value_bits == 32 or n_genes > _LARGEST_NARROW_GENE


def is_current(path: Path) -> bool:
    """Whether a file has the mark of rows as they are written now."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def write_rows(path: Path, shard: Shard) -> None:
    """Write the rows of a shard whose containers were checked. Memory is bounded by a block."""
    wide = is_wide(shard.n_genes, shard.value_bits)
    exponents, starts, end = [], [np.zeros(1, np.int64)], 0
    head_bytes = 2 * HEAD * (4 if wide else 2) * shard.n_cells
    heads_at = aligned(FILE_HEAD.itemsize)
    tails_at = heads_at + aligned(head_bytes)
    with path.open("wb") as file:
        file.seek(heads_at)
        for row in shard.table:
            block = _block(row, shard, wide)
            file.write(block.heads.data)
            at = file.tell()
            file.seek(tails_at + end)
            file.write(block.tails.data)
            file.seek(at)
            starts.append(end + block.starts[1:])
            exponents.append(block.exponents)
            end += len(block.tails)
            shard.release_pages()
        file.seek(tails_at + aligned(end))
        file.write(np.concatenate(starts).astype("<i8").data)
        file.write(np.concatenate([np.empty(0, np.int8), *exponents]).data)
        head = np.array([(MAGIC, shard.n_cells, end, wide, HEAD, shard.n_genes)], FILE_HEAD)
        file.seek(0)
        file.write(head.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _block(row: npt.NDArray[np.int64], shard: Shard, wide: bool) -> _Block:
    n_cells, is_half = int(row[N_CELLS]), shard.value_bits == 16
    counts, largest = np.zeros(n_cells, np.int64), np.zeros(n_cells, np.float32)
    row_lengths(row, shard.n_genes, is_half, counts, largest)
    exponents = np.zeros(n_cells, np.int64)
    if not wide:
        exponents = np.where(largest > 0, 15 - np.frexp(largest)[1], 0).clip(_LEAST, _MOST).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)])
    kind = np.uint32 if wide else np.uint16
    room = np.empty(2 * int(starts[-1]) * np.dtype(kind).itemsize, np.uint8)
    heads, tails = np.empty((n_cells, 2 * HEAD), kind), np.empty(n_cells + 1, np.int64)
    write = write_wide if wide else write_narrow
    write(row, shard.n_genes, is_half, starts, exponents, room, heads, tails)
    return _Block(heads, room[: tails[-1]], tails, exponents.astype(np.int8))


class Rows:
    """The rows of one study, memory-mapped; their digest was compared with the catalog's.

    No gene of a row can lead a kernel astray: narrow ones are below 65,536, which weights must have room
    for, and wide ones are compared with the room.
    """

    def __init__(self, path: Path, size_bytes: int, n_cells: int) -> None:
        self.path = path
        self._bytes = np.frombuffer(map_file(path, size_bytes), np.uint8)
        if len(self._bytes) < FILE_HEAD.itemsize:
            raise AtlasCorrupt(path, "it is too short")
        head = self._bytes[: FILE_HEAD.itemsize].view(FILE_HEAD)[0]
        if bytes(head["magic"]) in _EARLIER:
            raise AtlasCorrupt(path, "it is of an earlier version; `insignia retrain` makes it anew")
        if bytes(head["magic"]) != MAGIC:
            raise AtlasCorrupt(path, "it does not have the mark of rows")
        self.n_cells, self.wide = int(head["n_cells"]), bool(head["wide"])
        self.n_genes, tail_bytes = int(head["n_genes"]), int(head["tail_bytes"])
        width = 4 if self.wide else 2
        heads_at = aligned(FILE_HEAD.itemsize)
        tails_at = heads_at + aligned(2 * HEAD * width * self.n_cells)
        starts_at = tails_at + aligned(tail_bytes)
        exponents_at = starts_at + 8 * (self.n_cells + 1)
        if self.n_cells != n_cells or head["head"] != HEAD or exponents_at + n_cells != len(self._bytes):
            raise AtlasCorrupt(path, "its parts do not fit the catalog")
        self.starts = self._bytes[starts_at:exponents_at].view("<i8")
        steps = np.diff(self.starts)
        if (
            self.starts[0]
            or self.starts[-1] != tail_bytes
            or (steps < 0).any()
            or (steps % (2 * width)).any()
        ):
            raise AtlasCorrupt(path, "its rows do not fit one another")
        base = self._bytes.ctypes.data
        #: row of a row table, see `kernels.rows`
        self.table = np.array(
            [base + heads_at, base + tails_at, base + starts_at, base + exponents_at], np.int64
        )

    def profile(self, cell: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Genes, ascending, and values of a cell."""
        read, width = (read_wide, 4) if self.wide else (read_narrow, 2)
        most = HEAD + int(self.starts[cell + 1] - self.starts[cell]) // (2 * width)
        genes, values = np.empty(most, np.int64), np.empty(most, np.float32)
        n = read(self.table, cell, genes, values)
        return genes[:n], values[:n]

    def matrix(self, cells: npt.NDArray[np.int64]) -> Any:
        """Profiles of cells, a scipy CSR matrix float32 (n, n_genes)."""
        import scipy.sparse as sp

        profiles = [self.profile(cell) for cell in cells.tolist()]
        indptr = np.concatenate([[0], np.cumsum([len(genes) for genes, _ in profiles])])
        genes = np.concatenate([np.empty(0, np.int64), *(genes for genes, _ in profiles)])
        values = np.concatenate([np.empty(0, np.float32), *(values for _, values in profiles)])
        return sp.csr_matrix((values, genes, indptr), shape=(len(cells), self.n_genes))

    def project(
        self, components: npt.NDArray[np.float32], cells: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """Cells (n,) times components (n_genes, d): float32 (n, d), and their squared norms (n,)."""
        out = np.empty((len(cells), components.shape[1]), np.float32)
        squares = np.empty(len(cells))
        project = project_wide if self.wide else project_narrow
        for first in range(0, len(cells), _PROJECTED):
            part = slice(first, first + _PROJECTED)
            project(self.table, cells[part], components, self.n_genes, out[part], squares[part])
        return out, squares
