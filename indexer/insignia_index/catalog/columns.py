"""Metadata by column: one value a (study, field), raw little-endian arrays that are read zero-copy.

Text never contains NUL, so that dictionaries and cell ids are NUL-terminated runs of UTF-8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.catalog.records import FieldRecord
from insignia_index.format.files import bytes_digest
from insignia_index.kernels.gather import find_text
from insignia_model.table import Column

_BOOL_MISSING = 255
#: Of the cell ids of a study: their starts are uint32.
MOST_ID_BYTES = 1 << 32
#: Names from which on an index of all is made, where fewer are looked for one by one.
_MANY_NAMES = 16
#: How a kind may be stored.
_DTYPES = {"category": ("i1", "<i2", "<i4"), "bool": ("u1",), "integer": ("<i8",), "number": ("<f4", "<f8")}


def encode_column(column: Column) -> tuple[FieldRecord, bytes, bytes]:
    """Record, values and dictionary (empty unless category) of a column, as stored."""
    record, values, dictionary = _encoded(column)
    return replace(record, digest=bytes_digest(values, dictionary)), values, dictionary


def _encoded(column: Column) -> tuple[FieldRecord, bytes, bytes]:
    if column.kind == "category":
        dtype = _code_dtype(len(column.dictionary))
        record = FieldRecord(
            "category", dtype, int((column.values < 0).sum()), n_values=len(column.dictionary)
        )
        return record, column.values.astype(dtype).tobytes(), pack_text(column.dictionary)
    missing = column.missing if column.missing is not None else np.zeros(len(column), np.bool_)
    if column.kind == "bool":
        values = np.where(missing, _BOOL_MISSING, column.values).astype("u1")
        return FieldRecord("bool", "u1", int(missing.sum())), values.tobytes(), b""
    if column.kind == "integer":
        present = column.values[~missing]
        record = FieldRecord("integer", "<i8", int(missing.sum()), 0, *_range(present))
        # the mask follows the values; most columns have none
        mask = np.packbits(missing, bitorder="little").tobytes() if missing.any() else b""
        return record, np.where(missing, 0, column.values).astype("<i8").tobytes() + mask, b""
    dtype = "<f4" if column.values.dtype == np.float32 else "<f8"
    absent = np.isnan(column.values)
    record = FieldRecord("number", dtype, int(absent.sum()), 0, *_range(column.values[~absent]))
    return record, column.values.astype(dtype).tobytes(), b""


def decode_column(
    record: FieldRecord, raw: memoryview | bytes, dictionary: memoryview | bytes, n_cells: int
) -> Column:
    """Column over the stored bytes (copied for bool and masks only); `ValueError` if they are damaged."""
    if record.dtype not in _DTYPES.get(record.kind, ()):
        raise ValueError(f"a {record.kind} is not stored as {record.dtype}")
    if bytes_digest(raw, dictionary) != record.digest:
        raise ValueError("it does not match its checksum")
    has_mask = record.kind == "integer" and record.n_missing > 0
    if len(raw) != n_cells * np.dtype(record.dtype).itemsize + has_mask * ((n_cells + 7) // 8):
        raise ValueError("it has the wrong length")
    values: npt.NDArray[Any] = np.frombuffer(raw, record.dtype, n_cells)
    if record.kind == "category":
        names = unpack_text(dictionary)
        if len(names) != record.n_values or (n_cells and not -1 <= values.min() <= values.max() < len(names)):
            raise ValueError("a code is not in its dictionary")
        return Column("category", values, names)
    if record.kind == "bool":
        return Column("bool", values == 1, missing=values == _BOOL_MISSING)
    if has_mask:
        mask = np.frombuffer(raw, np.uint8, offset=8 * n_cells)
        missing = np.unpackbits(mask, count=n_cells, bitorder="little").astype(np.bool_)
        return Column("integer", values, missing=missing)
    return Column(record.kind, values)


def pack_text(values: Sequence[str]) -> bytes:
    """NUL-terminated UTF-8 run."""
    return "".join(f"{value}\0" for value in values).encode()


def unpack_text(raw: memoryview | bytes) -> list[str]:
    """Values of a NUL-terminated run."""
    return bytes(raw).decode().split("\0")[:-1]


class CellIds:
    """Cell ids of a study: name of a row and row of a name. Stored: uint32 starts (n + 1,), then the run."""

    def __init__(self, raw: memoryview | bytes, n_cells: int) -> None:
        self._starts = np.frombuffer(raw, "<u4", n_cells + 1)
        self._run = memoryview(raw)[self._starts.nbytes :]
        if self._starts[-1] != len(self._run) or (np.diff(self._starts.astype(np.int64)) < 1).any():
            raise ValueError("the cell ids are not where they should be")
        self._start = self._starts.item
        #: where the starts and the run lie, as long as this object lives
        self.starts_address = self._starts.ctypes.data
        self.run_address = np.frombuffer(self._run, np.uint8).ctypes.data

    @staticmethod
    def encode(cell_ids: Sequence[str]) -> bytes:
        """As stored; raises OverflowError where they are longer than a start can say."""
        names = [f"{name}\0".encode() for name in cell_ids]
        starts = np.cumsum([0, *map(len, names)])
        if starts[-1] >= MOST_ID_BYTES:
            raise OverflowError(f"the cell ids take {starts[-1]:,} bytes, {MOST_ID_BYTES:,} or more")
        return starts.astype("<u4").tobytes() + b"".join(names)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> str:
        return str(self._run[self._start(row) : self._start(row + 1) - 1], "utf-8")

    def row_of(self, cell_id: str) -> int | None:
        """Row of a cell id, None if there is none."""
        name = np.frombuffer(cell_id.encode() + b"\0", np.uint8)
        found = find_text(self._starts, self.run_address, name)
        return None if found < 0 else int(found)

    def rows_of(self, cell_ids: Sequence[str]) -> list[int | None]:
        """Row of each cell id, None for one that is none."""
        if len(cell_ids) < _MANY_NAMES:
            return [self.row_of(name) for name in cell_ids]
        rows = {name: row for row, name in enumerate(unpack_text(self._run))}
        return [rows.get(name) for name in cell_ids]


def _code_dtype(n_values: int) -> str:
    return "i1" if n_values < 128 else "<i2" if n_values < 32768 else "<i4"


def _range(values: npt.NDArray[Any]) -> tuple[float | None, float | None]:
    return (float(values.min()), float(values.max())) if len(values) else (None, None)
