"""Records of cells, assembled from metadata columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.snapshot import Snapshot
from insignia_model.table import Column, Table


class Places:
    """Cells by study and row. Every search passes its best cells through here, field by field."""

    def __init__(self, snapshot: Snapshot, study: npt.NDArray[np.int64], row: npt.NDArray[np.int64]) -> None:
        self.snapshot = snapshot
        used, self.which = np.unique(study, return_inverse=True)
        self.studies: list[int] = used.tolist()
        self.row = row
        self._pairs = list(zip(self.which.tolist(), row.tolist(), strict=True))

    @classmethod
    def of_rows(cls, snapshot: Snapshot, rows: npt.NDArray[np.int64]) -> Places:
        """Places of rows of the snapshot."""
        study = np.searchsorted(snapshot.study_starts, rows, side="right") - 1
        return cls(snapshot, study, rows - snapshot.study_starts[study])

    def table(self, scores: npt.NDArray[Any] | None = None) -> Table:
        """study, cell_id, [score,] and every metadata field of the cells, in their order."""
        ids = [self.snapshot.cell_ids(study) for study in self.studies]
        names = tuple(self.snapshot.studies[study].study for study in self.studies)
        columns = {
            "study": Column("category", self.which.astype(np.int32), names),
            "cell_id": Column.text([ids[i][row] for i, row in self._pairs]),
        }
        if scores is not None:
            columns["score"] = Column.numbers(scores.copy())
        for field in self.snapshot.fields:
            if field not in columns:
                columns[field] = self._field(field)
        return Table(columns)

    def _field(self, field: str) -> Column:
        columns = [self.snapshot.column(study, field) for study in self.studies]
        kinds = {column.kind for column in columns if column is not None}
        if kinds <= {"category"}:
            return self._categories(columns)
        if kinds == {"number"}:
            values = np.full(
                len(self.row), np.nan, np.result_type(*(c.values.dtype for c in columns if c is not None))
            )
            for i, column in enumerate(columns):
                if column is not None:
                    here = self.which == i
                    values[here] = column.values[self.row[here]]
            return Column("number", values)
        return Column.of([_value(columns[i], row) for i, row in self._pairs])

    def _categories(self, columns: list[Column | None]) -> Column:
        code_at = [_no_code if column is None else column.values.item for column in columns]
        names = [() if column is None else column.dictionary for column in columns]
        found = [names[i][code] if (code := code_at[i](row)) >= 0 else None for i, row in self._pairs]
        return Column.text(found)


def _no_code(row: int) -> int:
    """Code of a study that lacks the field."""
    return -1


def _value(column: Column | None, row: int) -> Any:
    return None if column is None else column.take(np.array([row])).to_list()[0]
