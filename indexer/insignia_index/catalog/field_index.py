"""Metadata fields over all studies, and the cell ids: where each study keeps what a search will ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from insignia_index.catalog.columns import CellIds
from insignia_index.kernels.gather import gather_categories, gather_items, gather_text
from insignia_model.table import Column

Ints = npt.NDArray[np.int64]
Load: TypeAlias = Callable[[int], CellIds]


class FieldIndex(Protocol):
    """Fields of single cells."""

    def take(self, study: Ints, row: Ints) -> dict[str, Column]:
        """Columns of the cells (study[i], row[i]), int64 (n,), by field."""


def index_fields(columns: Mapping[str, Sequence[Column | None]]) -> list[FieldIndex]:
    """Indexes of fields: of each the column of every study, None where a study lacks it.

    Categories are found together: most fields are categories, and a call costs more than to read a field.
    """
    categories: dict[str, Sequence[Column | None]] = {}
    found: list[FieldIndex] = []
    for field, of_studies in columns.items():
        present = [column for column in of_studies if column is not None]
        kinds = {column.kind for column in present}
        if kinds == {"category"}:
            categories[field] = of_studies
        elif len(kinds) == 1 and len({column.values.dtype for column in present}) == 1:
            found.append(_ValueIndex(field, of_studies, present[0]))
        else:
            found.append(_MixedIndex(field, of_studies))
    return [_CategoryIndex(categories), *found] if categories else found


class _CategoryIndex:
    """Fields of names, each with one dictionary for all studies."""

    def __init__(self, columns: Mapping[str, Sequence[Column | None]]) -> None:
        self._columns = columns  # keeps what the addresses point to
        self._names: dict[str, tuple[str, ...]] = {}
        maps: list[int] = []
        addresses, itemsizes, map_starts = [], [], []
        for field, of_studies in columns.items():
            addresses.append(_addresses([None if c is None else c.values for c in of_studies]))
            itemsizes.append([1 if c is None else c.values.itemsize for c in of_studies])
            names: dict[str, int] = {}
            starts = []
            for column in of_studies:
                starts.append(len(maps))
                if column is not None:
                    maps += [names.setdefault(name, len(names)) for name in column.dictionary]
            map_starts.append(starts)
            self._names[field] = tuple(names)
        self._where = (
            np.array(addresses, np.int64),
            np.array(itemsizes, np.int64),
            np.array(map_starts, np.int64),
            np.array(maps, np.int32),
            np.array([len(names) for names in self._names.values()], np.int64),
        )

    def take(self, study: Ints, row: Ints) -> dict[str, Column]:
        codes, n_used, used = gather_categories(*self._where, study, row)
        found = {}
        for i, ((field, names), n) in enumerate(zip(self._names.items(), n_used.tolist(), strict=True)):
            if n >= 0:
                names = tuple([names[code] for code in used[i, :n].tolist()])
            found[field] = Column("category", codes[i], names)
        return found


class _ValueIndex:
    """Numbers, integers or bools of one dtype."""

    def __init__(self, field: str, columns: Sequence[Column | None], example: Column) -> None:
        self._field, self._columns = field, columns
        self._kind, self._dtype = example.kind, example.values.dtype
        self._addresses = _addresses([None if c is None else c.values for c in columns])
        self._mask_addresses = _addresses([None if c is None else c.missing for c in columns])
        self._lacks_field = self._addresses == 0

    def take(self, study: Ints, row: Ints) -> dict[str, Column]:
        return {self._field: self._taken(study, row)}

    def _taken(self, study: Ints, row: Ints) -> Column:
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

    def __init__(self, field: str, columns: Sequence[Column | None]) -> None:
        self._field, self._columns = field, columns

    def take(self, study: Ints, row: Ints) -> dict[str, Column]:
        return {self._field: self._taken(study, row)}

    def _taken(self, study: Ints, row: Ints) -> Column:
        pairs = zip(study.tolist(), row.tolist(), strict=True)
        cells = [(self._columns[s], r) for s, r in pairs]
        columns = [column for column, _ in cells if column is not None]
        if not columns or any(column.kind != "number" for column in columns):
            return Column.of([_value(column, row) for column, row in cells])
        # numbers keep their precision; beside a float64, a float32 is what was written: 0.1, not its float32
        dtype = np.result_type(*{column.values.dtype for column in columns})
        values = np.full(len(cells), np.nan, dtype)
        for i, (column, row_) in enumerate(cells):
            if column is not None:
                value = column.values[row_]
                values[i] = value if value.dtype == dtype else float(str(value))
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
