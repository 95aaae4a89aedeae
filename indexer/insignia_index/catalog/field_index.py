"""A metadata field over all studies, and the cell ids: where each study keeps what a search will ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from insignia_index.catalog.columns import CellIds
from insignia_index.kernels.gather import gather_codes, gather_items, gather_text, renumber_codes
from insignia_model.table import Column

Ints = npt.NDArray[np.int64]
Load: TypeAlias = Callable[[int], CellIds]


class FieldIndex(Protocol):
    """A field of single cells."""

    def take(self, study: Ints, row: Ints) -> Column:
        """Column of the cells (study[i], row[i]), int64 (n,)."""


def index_field(columns: Sequence[Column | None]) -> FieldIndex:
    """Index of the column of every study, None where a study lacks the field."""
    present = [column for column in columns if column is not None]
    kinds = {column.kind for column in present}
    if kinds == {"category"}:
        return _CategoryIndex(columns)
    if len(kinds) == 1 and len({column.values.dtype for column in present}) == 1:
        return _ValueIndex(columns, present[0])
    return _MixedIndex(columns)


class _CategoryIndex:
    """One dictionary for all studies."""

    def __init__(self, columns: Sequence[Column | None]) -> None:
        self._columns = columns  # keeps what the addresses point to
        self._addresses = _addresses([None if c is None else c.values for c in columns])
        self._itemsizes = np.array([1 if c is None else c.values.itemsize for c in columns], np.int64)
        names: dict[str, int] = {}
        maps: list[int] = []
        map_starts = []
        for column in columns:
            map_starts.append(len(maps))
            if column is not None:
                maps += [names.setdefault(name, len(names)) for name in column.dictionary]
        self._map_starts = np.array(map_starts, np.int64)
        self._maps = np.array(maps, np.int32)
        self._names = tuple(names)

    def take(self, study: Ints, row: Ints) -> Column:
        codes = gather_codes(self._addresses, self._itemsizes, self._map_starts, self._maps, study, row)
        if len(self._names) <= len(codes):
            return Column("category", codes, self._names)
        used, codes = renumber_codes(codes)
        return Column("category", codes, tuple([self._names[code] for code in used.tolist()]))


class _ValueIndex:
    """Numbers, integers or bools of one dtype."""

    def __init__(self, columns: Sequence[Column | None], example: Column) -> None:
        self._columns = columns
        self._kind, self._dtype = example.kind, example.values.dtype
        self._addresses = _addresses([None if c is None else c.values for c in columns])
        self._mask_addresses = _addresses([None if c is None else c.missing for c in columns])
        self._lacks_field = self._addresses == 0

    def take(self, study: Ints, row: Ints) -> Column:
        is_number = self._kind == "number"
        values = np.full(len(row), np.nan if is_number else 0, self._dtype)
        self._gather(self._addresses, study, row, values)
        if is_number:
            return Column(self._kind, values)
        missing = self._lacks_field[study]
        self._gather(self._mask_addresses, study, row, missing)
        return Column(self._kind, values, missing=missing)

    @staticmethod
    def _gather(addresses: Ints, study: Ints, row: Ints, values: npt.NDArray[Any]) -> None:
        gather_items(addresses, study, row, values.view(np.uint8).reshape(len(values), values.itemsize))


class _MixedIndex:
    """A field that is a number in one study and something else in another: value by value."""

    def __init__(self, columns: Sequence[Column | None]) -> None:
        self._columns = columns

    def take(self, study: Ints, row: Ints) -> Column:
        pairs = zip(study.tolist(), row.tolist(), strict=True)
        cells = [(self._columns[s], r) for s, r in pairs]
        columns = [column for column, _ in cells if column is not None]
        if not columns or any(column.kind != "number" for column in columns):
            return Column.of([_value(column, row) for column, row in cells])
        # numbers keep their precision, which Python values would lose
        values = np.full(len(cells), np.nan, np.result_type(*{column.values.dtype for column in columns}))
        for i, (column, row_) in enumerate(cells):
            if column is not None:
                values[i] = column.values[row_]
        return Column("number", values)


class CellIdIndex:
    """Cell ids over all studies; a study's are loaded when they are first asked for.

    ``load`` comes with the question: an index that kept it would keep the snapshot that keeps the index.
    """

    def __init__(self, n_studies: int) -> None:
        self._loaded: dict[int, CellIds] = {}
        self._starts, self._runs = np.zeros(n_studies, np.int64), np.zeros(n_studies, np.int64)

    def of(self, study: int, load: Load) -> CellIds:
        """Cell ids of one study."""
        found = self._loaded.get(study)
        if found is None:
            found = load(study)
            # in this order: whoever finds a study's starts, or its ids, finds the rest too
            self._runs[study] = found.run_address
            self._starts[study] = found.starts_address
            found = self._loaded.setdefault(study, found)
        return found

    def take(self, study: Ints, row: Ints, load: Load) -> list[str]:
        """Ids of the cells (study[i], row[i]), int64 (n,)."""
        absent = study[self._starts[study] == 0]
        for index in np.unique(absent).tolist() if len(absent) else ():
            self.of(index, load)
        run: bytes = gather_text(self._starts, self._runs, study, row).tobytes()
        return run.decode().split("\0")[:-1]


def _addresses(arrays: Sequence[npt.NDArray[Any] | None]) -> Ints:
    """Where each array lies, 0 for none. Whoever keeps the addresses keeps the arrays."""
    return np.array([0 if array is None else array.ctypes.data for array in arrays], np.int64)


def _value(column: Column | None, row: int) -> Any:
    return None if column is None else column.take(np.array([row])).to_list()[0]
