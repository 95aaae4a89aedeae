"""Out-of-core transposition: entries of an array by gene in, rows by study out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash
from scipy.sparse import csr_matrix

from insignia_index.build.ahead import one_ahead
from insignia_index.build.errors import CorruptMatrix
from insignia_index.build.signature.array import Batch, SignatureArray
from insignia_index.build.signature.journal import Done
from insignia_index.kernels.buckets import NOT_FINITE, count_entries, rows_from_pieces, scatter_entries

#: Rows and entries that are turned into CSR together: 16 bytes an entry in passing.
CHUNK_CELLS = 8_192
CHUNK_ENTRIES = 8_000_000
#: Bytes between two points from which an import can go on.
COMMIT_BYTES = 256 << 20
#: row in the bucket, gene after the first of the batch
_ENTRY = np.dtype([("row", "<u2"), ("gene", "<u2"), ("value", "<f4")])
_READ = 16 << 20


class Buckets:
    """Which cells of a folder are read together: runs of a study's cells, in their order.

    ``of_cell`` int32 (n_cells,): bucket, -1 where the study is not wanted; ``row_of_cell`` uint16: its row
    there; ``study`` and ``n_rows`` (n_buckets,).
    """

    def __init__(self, study_of: npt.NDArray[np.int32], wanted: npt.NDArray[np.bool_], n_stored: int) -> None:
        n_cells = len(study_of)
        size = max(1, min(CHUNK_CELLS, CHUNK_ENTRIES * n_cells // max(1, n_stored)))
        counts = np.bincount(study_of, minlength=len(wanted))
        n_buckets = np.where(wanted, -(-counts // size), 0)
        first = np.cumsum(n_buckets) - n_buckets
        order = np.argsort(study_of, kind="stable")
        rank = np.empty(n_cells, np.int64)
        rank[order] = np.arange(n_cells) - np.repeat(np.cumsum(counts) - counts, counts)
        bucket = first[study_of] + rank // size
        self.of_cell = np.where(wanted[study_of], bucket, -1).astype(np.int32)
        self.row_of_cell = (rank % size).astype(np.uint16)
        self.study = np.repeat(np.arange(len(wanted)), n_buckets)
        self.n_rows = np.bincount(self.of_cell[self.of_cell >= 0], minlength=len(self.study))

    def __len__(self) -> int:
        return len(self.study)


class Regrouped:
    """The entries of one array by bucket, in a file: batches of genes, in each the entries by bucket.

    A batch is int64 n_buckets, first gene, then n_buckets + 1 starts, then the entries (8 bytes each).
    """

    def __init__(self, path: Path, buckets: Buckets, n_genes: int) -> None:
        self.buckets = buckets
        self._path = path
        self._n_genes = n_genes
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._end = 0
        self._digest = xxhash.xxh3_64()
        self._offsets: list[int] = []
        self._first_genes: list[int] = []
        self._starts: list[npt.NDArray[np.int64]] = []

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def resume(self, done: Done) -> Done:
        """Take over what the file holds, if it is what was recorded; returns from where to go on."""
        if self._matches(done):
            while self._end < done.n_bytes:
                self._read_header()
        else:
            done, self._digest = Done(), xxhash.xxh3_64()
        os.ftruncate(self._file, done.n_bytes)
        return done

    def run(
        self,
        array: SignatureArray,
        done: Done,
        record: Callable[[Done], None],
        fault: Callable[[int], Exception],
        advance: Callable[[int], None],
    ) -> None:
        """Regroup what is left of an array. ``record`` is told what is done, ``advance`` genes.

        ``fault`` gives the error of a cell with a value that is not finite.
        """
        committed = done.n_bytes
        with closing(one_ahead(array.batches(done.next_gene))) as batches:
            for batch in batches:
                if not batch.ends_range:
                    self._append(array.path, batch, fault)
                    continue
                advance(batch.last_gene - done.next_gene)
                done = Done(batch.last_gene, self._end, self._digest.hexdigest())
                if self._end - committed >= COMMIT_BYTES or batch.last_gene == self._n_genes:
                    os.fsync(self._file)
                    record(done)
                    committed = self._end

    def n_entries(self) -> npt.NDArray[np.int64]:
        """Entries of every bucket (n_buckets,)."""
        total = np.zeros(len(self.buckets), np.int64)
        for starts in self._starts:
            total += np.diff(starts)
        return total

    def pieces(self, bucket: int) -> Iterator[tuple[int, int, int]]:
        """Of every batch with entries of a bucket: their first gene, offset in the file and number."""
        for offset, first_gene, starts in zip(self._offsets, self._first_genes, self._starts, strict=True):
            first, last = starts[bucket : bucket + 2].tolist()
            if last > first:
                yield first_gene, offset + first * _ENTRY.itemsize, last - first

    def read_into(self, entries: npt.NDArray[Any], offset: int) -> None:
        """Fill ``entries`` from the file."""
        view = entries.view(np.uint8).data
        while len(view):
            n = os.preadv(self._file, [view], offset)
            if n == 0:
                raise CorruptMatrix(self._path, "it is cut off; remove its folder and import again")
            view, offset = view[n:], offset + n

    def _append(self, path: Path, batch: Batch, fault: Callable[[int], Exception]) -> None:
        counts = np.zeros(len(self.buckets), np.int64)
        cells, genes, values = batch.cells, batch.genes, batch.values
        buckets = self.buckets
        bad, at = count_entries(
            cells, genes, values, buckets.of_cell, batch.first_gene, batch.last_gene, counts
        )
        if bad == NOT_FINITE:
            raise fault(int(cells[at]))
        if bad:
            raise CorruptMatrix(path, f"cell {cells[at]}, gene {genes[at]} is outside of what was asked for")
        starts = np.concatenate([[0], np.cumsum(counts)])
        entries = np.empty(int(starts[-1]), _ENTRY)
        scatter_entries(
            cells, genes, values, buckets.of_cell, buckets.row_of_cell, batch.first_gene, starts[:-1].copy(),
            entries["row"], entries["gene"], entries["value"],
        )  # fmt: skip
        header = np.concatenate([[len(counts), batch.first_gene], starts]).astype("<i8")
        for part in (header, entries):
            self._write(part.view(np.uint8).data)
        self._note(batch.first_gene, starts, self._end - entries.nbytes)

    def _write(self, data: memoryview) -> None:
        self._digest.update(data)
        while len(data):
            n = os.pwrite(self._file, data, self._end)
            data, self._end = data[n:], self._end + n

    def _note(self, first_gene: int, starts: npt.NDArray[np.int64], offset: int) -> None:
        self._first_genes.append(first_gene)
        self._starts.append(starts)
        self._offsets.append(offset)

    def _read_header(self) -> None:
        header = np.empty(len(self.buckets) + 3, "<i8")
        self.read_into(header, self._end)
        offset = self._end + header.nbytes
        self._note(int(header[1]), header[2:], offset)
        self._end = offset + int(header[-1]) * _ENTRY.itemsize

    def _matches(self, done: Done) -> bool:
        if os.fstat(self._file).st_size < done.n_bytes:
            return False
        for offset in range(0, done.n_bytes, _READ):
            self._digest.update(os.pread(self._file, min(_READ, done.n_bytes - offset), offset))
        return done.n_bytes == 0 or self._digest.hexdigest() == done.digest


def study_chunks(arrays: Sequence[Regrouped], study: int, n_genes: int) -> Iterator[csr_matrix]:
    """CSR chunks float32 of a study's cells, in the order of array and row."""
    chunk: list[tuple[Regrouped, int]] = []
    n_rows = n_entries = 0
    for array in arrays:
        sizes = array.n_entries()
        for bucket in np.flatnonzero(array.buckets.study == study).tolist():
            rows, entries = int(array.buckets.n_rows[bucket]), int(sizes[bucket])
            if chunk and (n_rows + rows > CHUNK_CELLS or n_entries + entries > CHUNK_ENTRIES):
                yield _load(chunk, n_rows, n_entries, n_genes)
                chunk, n_rows, n_entries = [], 0, 0
            chunk.append((array, bucket))
            n_rows, n_entries = n_rows + rows, n_entries + entries
    if chunk:
        yield _load(chunk, n_rows, n_entries, n_genes)


def _load(chunk: Sequence[tuple[Regrouped, int]], n_rows: int, n_entries: int, n_genes: int) -> csr_matrix:
    entries = np.empty(n_entries, _ENTRY)
    starts, first_rows, first_genes = [0], [], []
    first_row = 0
    for array, bucket in chunk:
        for first_gene, offset, n in array.pieces(bucket):
            array.read_into(entries[starts[-1] : starts[-1] + n], offset)
            starts.append(starts[-1] + n)
            first_rows.append(first_row)
            first_genes.append(first_gene)
        first_row += int(array.buckets.n_rows[bucket])
    indptr = np.zeros(n_rows + 1, np.int64)
    indices, data = np.empty(n_entries, np.int32), np.empty(n_entries, np.float32)
    rows_from_pieces(
        np.array(starts, np.int64), np.array(first_rows, np.int64), np.array(first_genes, np.int64),
        entries["row"], entries["gene"], entries["value"], indptr, indices, data,
    )  # fmt: skip
    return csr_matrix((data, indices, indptr), shape=(n_rows, n_genes))
