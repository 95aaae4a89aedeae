"""Small columnar tables: what results are made of, before anybody wants a data frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

#: Kind of a column: dtype of its values and how a missing one is marked.
KINDS = {
    "category": "int32 codes into the dictionary; missing: -1",
    "number": "float32 or float64; missing: NaN",
    "integer": "int64; missing where the mask says",
    "bool": "bool; missing where the mask says",
}


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One column: ``values (n,)`` of the dtype of its kind, a dictionary (category), a mask (integer, bool).

    Text is a category whose dictionary may be as long as the column.
    """

    kind: str
    values: npt.NDArray[Any]
    dictionary: Sequence[str] = field(default=(), repr=False)
    missing: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def has_values(self) -> bool:
        """Whether any value is not missing."""
        if self.kind == "category":
            return bool((self.values >= 0).any())
        if self.kind == "number":
            return not np.isnan(self.values).all()
        return self.missing is None or not self.missing.all()

    @classmethod
    def text(cls, values: Sequence[str | None]) -> Column:
        """Category column of ``values``, dictionary in order of appearance."""
        names = tuple(dict.fromkeys(values))
        if len(names) == len(values) and None not in names:
            return cls("category", np.arange(len(names), dtype=np.int32), names)  # type: ignore[arg-type]
        index: dict[str | None, int] = {name: i for i, name in enumerate(names)}
        codes = np.fromiter(map(index.__getitem__, values), np.int32, len(values))
        if None not in index:
            return cls("category", codes, names)  # type: ignore[arg-type]
        absent = index[None]
        codes = np.where(codes == absent, -1, codes - (codes > absent)).astype(np.int32)
        return cls("category", codes, tuple(name for name in names if name is not None))

    @classmethod
    def numbers(cls, values: npt.ArrayLike) -> Column:
        """Number column; float32 stays float32, anything else becomes float64."""
        array = np.asarray(values)
        return cls("number", array if array.dtype == np.float32 else array.astype(np.float64))

    @classmethod
    def integers(cls, values: npt.ArrayLike) -> Column:
        """Integer column without missing values."""
        return cls("integer", np.asarray(values, dtype=np.int64))

    @classmethod
    def of(cls, values: Sequence[Any]) -> Column:
        """Column of the kind that the Python values (None: missing) have; mixed ones become text."""
        kinds = {type(value) for value in values if value is not None}
        missing = np.array([value is None for value in values], np.bool_)
        if kinds == {bool}:
            return cls("bool", np.array([bool(v) for v in values]), missing=missing)
        if kinds == {int}:
            return cls("integer", np.array([v or 0 for v in values], np.int64), missing=missing)
        if kinds and kinds <= {int, float}:
            return cls.numbers(np.array([np.nan if v is None else v for v in values], np.float64))
        return cls.text([None if v is None else str(v) for v in values])

    def take(self, rows: npt.NDArray[np.int64]) -> Column:
        """Values at ``rows``, in their order; a dictionary that is longer keeps the names that are left."""
        missing = None if self.missing is None else self.missing[rows]
        return Column(self.kind, self.values[rows], self.dictionary, missing).compact()

    def compact(self) -> Column:
        """The same values; a category whose dictionary is longer than the column keeps the names it uses."""
        if self.kind != "category" or len(self.dictionary) <= len(self.values):
            return self
        used, codes = np.unique(self.values, return_inverse=True)
        n_missing = int(len(used) > 0 and used[0] < 0)
        names = tuple(self.dictionary[code] for code in used[n_missing:].tolist())
        return Column("category", (codes - n_missing).astype(np.int32), names)

    def without(self, rows: npt.NDArray[np.bool_]) -> Column:
        """The same values, missing in ``rows`` too."""
        if self.kind == "category":
            return Column("category", np.where(rows, np.int32(-1), self.values), self.dictionary)
        if self.kind == "number":
            return Column("number", np.where(rows, self.values.dtype.type(np.nan), self.values))
        return Column(self.kind, self.values, missing=rows if self.missing is None else rows | self.missing)

    def head(self, n_rows: int) -> Column:
        """First ``n_rows`` values (views)."""
        missing = None if self.missing is None else self.missing[:n_rows]
        return Column(self.kind, self.values[:n_rows], self.dictionary, missing)

    def to_list(self) -> list[Any]:
        """Python values, None where missing. A float32 becomes the shortest float that denotes it."""
        if self.kind == "category":
            names = [*self.dictionary, None]  # code -1 is the last one
            return [names[code] for code in self.values.tolist()]
        if self.kind == "number":
            values = self.values
            if values.dtype == np.float32:
                # 0.1f prints as 0.1, as a user wrote it, not as 0.10000000149011612
                return [None if v != v else float(str(v)) for v in values]
            return [None if v != v else v for v in values.tolist()]
        if self.missing is None:
            return list(self.values.tolist())
        return [None if m else v for v, m in zip(self.values.tolist(), self.missing.tolist(), strict=True)]

    def to_series(self) -> pd.Series[Any]:
        """Pandas series: category → Categorical, integer/bool with missing → nullable dtype."""
        import pandas as pd

        if self.kind == "category":
            codes: npt.NDArray[np.int32] = self.values
            categories = pd.Categorical.from_codes(codes, pd.Index(list(self.dictionary)))
            # else a frame that is grouped by it has rows for values that it does not have
            return pd.Series(categories.remove_unused_categories())
        if self.missing is not None and self.missing.any():
            array = {"integer": pd.arrays.IntegerArray, "bool": pd.arrays.BooleanArray}[self.kind]
            return pd.Series(array(self.values, self.missing))
        return pd.Series(self.values)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Columns of equal length by name, in order."""

    columns: dict[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows as {column: Python value}, None where missing."""
        names = list(self.columns)
        for values in zip(*(column.to_list() for column in self.columns.values()), strict=True):
            yield dict(zip(names, values, strict=True))

    def to_frame(self) -> pd.DataFrame:
        """Pandas frame with a plain row index."""
        import pandas as pd

        return pd.DataFrame({name: column.to_series() for name, column in self.columns.items()})

    def head(self, n_rows: int) -> Table:
        """First ``n_rows`` rows."""
        return Table({name: column.head(n_rows) for name, column in self.columns.items()})

    def __repr__(self) -> str:
        return f"<Table of {len(self):,} rows: {', '.join(self.columns)}>"

    def _repr_html_(self, max_rows: int = 20) -> str:
        """Show the first rows in a notebook, and how many more there are."""
        more = len(self) - max_rows
        shown = str(self.head(max_rows).to_frame().to_html(index=False, na_rep=""))
        return shown + (f"<p>and {more:,} more rows</p>" if more > 0 else "")
