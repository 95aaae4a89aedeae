"""The rows of each study of a file, in chunks: in place where they lie together, else by way of a spill."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from insignia_index.build.inputs import Source

#: Stored entries of a chunk: 8 bytes each in CSR, and as much again in passing.
_CHUNK_ENTRIES = 8_000_000
_CHUNK_CELLS = 8_192


class RowsByStudy:
    """``study`` int64 (n_cells,): study index of every row of ``source``; ``wanted``: those to be read.

    Studies whose rows lie together are read in place. If one's do not, a single pass over the file copies
    every row to a file of its study in ``spill`` (a directory; 8 bytes a stored entry), from which they are
    then read; so that no study costs a pass of its own.
    """

    def __init__(self, source: Source, study: npt.NDArray[np.int64], wanted: list[int], spill: Path) -> None:
        self._source = source
        self._spill = spill
        self._step = chunk_cells(source, len(study))
        changes = np.flatnonzero(np.diff(study)) + 1
        edges = np.concatenate([[0], changes, [len(study)]])
        self._runs = {int(study[a]): (int(a), int(b)) for a, b in pairwise(edges) if a < b}
        self._together = len(self._runs) == len(edges) - 1
        if not self._together:
            self._copy(study, wanted)

    def chunks(self, study: int) -> Iterator[Any]:
        """CSR chunks of a study's rows, in row order."""
        if not self._together:
            yield from self._spilled(study)
            return
        first, last = self._runs[study]
        for start in range(first, last, self._step):
            yield self._source.read(start, min(start + self._step, last))

    def _copy(self, study: npt.NDArray[np.int64], wanted: list[int]) -> None:
        for start in range(0, len(study), self._step):
            stop = min(start + self._step, len(study))
            chunk, of = self._source.read(start, stop), study[start:stop]
            for index in np.intersect1d(of, wanted).tolist():
                part = chunk[np.flatnonzero(of == index)]
                self._append(index, "lengths", np.diff(part.indptr).astype(np.int64))
                self._append(index, "indices", part.indices.astype(np.int32))
                self._append(index, "data", part.data)

    def _append(self, study: int, name: str, values: npt.NDArray[Any]) -> None:
        with (self._spill / f"{study}.{name}").open("ab") as file:
            file.write(np.ascontiguousarray(values).data)

    def _spilled(self, study: int) -> Iterator[Any]:
        names = ("lengths", "indices", "data")
        paths = [self._spill / f"{study}.{name}" for name in names]
        lengths = np.fromfile(paths[0], np.int64)
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        n_columns = len(self._source.genes)
        with paths[1].open("rb") as indices, paths[2].open("rb") as data:
            for start in range(0, len(lengths), self._step):
                stop = min(start + self._step, len(lengths))
                n = int(indptr[stop] - indptr[start])
                parts = (
                    np.fromfile(data, np.float32, n),
                    np.fromfile(indices, np.int32, n),
                    indptr[start : stop + 1] - indptr[start],
                )
                yield csr_matrix(parts, shape=(stop - start, n_columns))
        for path in paths:
            path.unlink()


def chunk_cells(source: Source, n_cells: int) -> int:
    """Cells to read at once."""
    per_cell = max(1, source.n_stored // max(1, n_cells))
    return max(1, min(_CHUNK_CELLS, _CHUNK_ENTRIES // per_cell))
