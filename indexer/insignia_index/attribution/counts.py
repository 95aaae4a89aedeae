"""What a matrix of expression holds: counts, normalised values, their logarithms, or nothing of use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, vstack

from insignia_index.attribution.errors import BadCount, NotCounts
from insignia_index.build.errors import CorruptMatrix
from insignia_index.build.inputs import InputFile, Source, matrix_names, open_source
from insignia_model.errors import InputError, InvalidArgument

#: Rows that tell what a matrix holds: spread over the file in runs, which are cheap to read.
_SAMPLE_RUNS, _RUN_ROWS = 8, 64
#: Sums of cells that were scaled to one total differ by less; those of cells that were not, by far more.
_SUM_TOLERANCE = 0.01
#: log1p of more would be a count beyond 1e13.
_MOST_LOG1P = 30.0


@dataclass(frozen=True, slots=True)
class Values:
    """What a matrix holds. ``kind``: counts, normalised, log-normalised, or else what is wrong with it.

    ``total``: sum of every cell, before the logarithm, where they were scaled to one.
    """

    kind: str
    total: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}, {self.total:,.0f} a cell" if self.total else self.kind


def recognise(rows: csr_matrix) -> Values:
    """What rows hold, which are some of a matrix's."""
    data = rows.data
    if not len(data) or not data.any():
        return Values("all zero")
    if not np.isfinite(data).all():
        return Values("with values that are NaN or infinite")
    if (data < 0).any():
        return Values("with negative values, as after scaling or centring")
    if is_whole(data).all():
        return Values("counts")
    if (total := _one_total(_sums(rows, logarithmic=False))) is not None:
        return Values("normalised", total)
    if data.max() < _MOST_LOG1P and (total := _one_total(_sums(rows, logarithmic=True))) is not None:
        return Values("log-normalised", total)
    return Values("neither whole numbers nor scaled to one sum a cell (genes left out after normalising?)")


def is_whole(data: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Whether values are whole numbers."""
    whole: npt.NDArray[np.bool_] = data == np.rint(data)
    return whole


def as_counts(
    path: Path, matrix: str, rows: csr_matrix, values: Values, first: int, given: bool
) -> csr_matrix:
    """Counts of rows, or what is proportional to them cell by cell; raises `BadCount`.

    ``first``: number of the first row. ``given``: the kind was told, so that counts may be fractions and sums
    may differ.
    """
    _refuse(path, matrix, rows, ~np.isfinite(rows.data), first, "has a value that is NaN or infinite")
    _refuse(path, matrix, rows, rows.data < 0, first, "has a negative value")
    if values.kind == "counts" and not given:
        _refuse(
            path,
            matrix,
            rows,
            ~is_whole(rows.data),
            first,
            "has a value that is no whole number, unlike others",
        )
    if values.kind != "counts" and not given:
        sums = _sums(rows, logarithmic=values.kind == "log-normalised")
        off = (sums > 0) & (np.abs(sums - values.total) > _SUM_TOLERANCE * values.total)
        if off.any():
            row = int(np.argmax(off))
            problem = f"sums to {sums[row]:,.1f}, and others to {values.total:,.1f}"
            raise BadCount(path, matrix, first + row, problem)
    if values.kind != "log-normalised":
        return rows
    return csr_matrix((np.expm1(rows.data, dtype=np.float32), rows.indices, rows.indptr), rows.shape)


def choose(file: InputFile, wanted: str, values: str, uses_depth: bool) -> tuple[str, Values]:
    """Matrix of a file to use, and what it holds; ``wanted`` and ``values``: see `Recipe`.

    Raises `NotCounts` where none fits. A model that ``uses_depth`` takes counts only.
    """
    there = matrix_names(file)
    names = [name for name in ("counts", "X", "raw") if name in there] if wanted == "auto" else [wanted]
    if values != "auto" and len(names) == 1:
        return names[0], Values(values)
    found = {name: _recognised(file, name, len(names) > 1) for name in names}
    if values != "auto":  # what was said, of the matrix that looks like it
        alike = [name for name, holds in found.items() if holds.kind == values]
        if alike:
            return alike[0], Values(values)
        there_are = "; ".join(f"{name!r} is {holds}" for name, holds in found.items())
        raise InvalidArgument("values", f"{file.path}: {there_are}; say which is {values} with --counts")
    for kind in ("counts",) if uses_depth else ("counts", "normalised", "log-normalised"):
        for name, holds in found.items():
            if holds.kind == kind:
                return name, holds
    what = "; ".join(f"{name!r} is {holds}" for name, holds in found.items()) or "it has no matrix to try"
    needs = (
        "counts" if uses_depth else "counts, or values that were normalised over all genes (or log1p of them)"
    )
    raise NotCounts(file.path, what, needs)


def _recognised(file: InputFile, name: str, may_fail: bool) -> Values:
    """What a matrix holds; of one that cannot be read and that nobody named, why."""
    try:
        return recognise(sample(file, name))
    except InputError as error:
        if not may_fail:
            raise
        return Values(f"not readable ({error.message.removeprefix(f'{file.path}: ')})")


def without_model(file: InputFile, matrix: str) -> InputFile:
    """The file with one of its matrices to read as it is."""
    return replace(file, layer=None if matrix == "X" else matrix, attribution=None)


def read(path: Path, source: Source, first: int, last: int) -> csr_matrix:
    """Rows [first, last); raises `CorruptMatrix` if a column is out of range, which scipy would not see."""
    rows = source.read(first, last)
    bad = (rows.indices < 0) | (rows.indices >= rows.shape[1])
    if bad.any():
        row = int(np.searchsorted(rows.indptr, np.argmax(bad), side="right")) - 1
        raise CorruptMatrix(path, f"row {first + row:,} has a column out of range")
    return rows


def sample(file: InputFile, name: str) -> csr_matrix:
    """Some rows of one of a file's matrices."""
    with open_source(without_model(file, name)) as source:
        n_cells = len(source.obs)
        starts = np.unique(np.linspace(0, max(0, n_cells - _RUN_ROWS), _SAMPLE_RUNS).astype(int))
        runs = [read(file.path, source, int(a), min(int(a) + _RUN_ROWS, n_cells)) for a in starts]
        rows: csr_matrix = vstack(runs, "csr")
        return rows


def _sums(rows: csr_matrix, logarithmic: bool) -> npt.NDArray[np.float64]:
    data = np.expm1(rows.data, dtype=np.float64) if logarithmic else rows.data
    return np.asarray(csr_matrix((data, rows.indices, rows.indptr), rows.shape).sum(1, np.float64)).ravel()


def _one_total(sums: npt.NDArray[np.float64]) -> float | None:
    """What all cells that are not empty sum to, if it is one number, and there are cells enough to tell."""
    sums = sums[sums > 0]
    total = float(np.median(sums)) if len(sums) > 1 else 0.0
    return total if total and np.abs(sums - total).max() <= _SUM_TOLERANCE * total else None


def _refuse(
    path: Path, matrix: str, rows: csr_matrix, bad: npt.NDArray[np.bool_], first: int, problem: str
) -> None:
    if bad.any():
        row = int(np.searchsorted(rows.indptr, np.argmax(bad), side="right")) - 1
        raise BadCount(path, matrix, first + row, problem)
