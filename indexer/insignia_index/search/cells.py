"""Records of cells, assembled from metadata columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.snapshot import Snapshot
from insignia_model.table import Column, Table

Ints = npt.NDArray[np.int64]


class Places:
    """Cells by study and row in the study, int64 (n,). Every search passes its best cells through here."""

    def __init__(self, snapshot: Snapshot, study: Ints, row: Ints) -> None:
        self.snapshot = snapshot
        self.study = study
        self.row = row

    @classmethod
    def of_rows(cls, snapshot: Snapshot, rows: Ints) -> Places:
        """Places of rows of the snapshot."""
        study = np.searchsorted(snapshot.study_starts, rows, side="right") - 1
        return cls(snapshot, study, rows - snapshot.study_starts[study])

    def table(self, scores: npt.NDArray[Any] | None = None) -> Table:
        """study, cell_id, [score,] and every metadata field of the cells, in their order."""
        cell_ids = self.snapshot.cell_ids
        pairs = zip(self.study.tolist(), self.row.tolist(), strict=True)
        columns = {
            "study": self._field("study"),
            "cell_id": Column.text([cell_ids(study)[row] for study, row in pairs]),
        }
        if scores is not None:
            columns["score"] = Column.numbers(scores.copy())
        for field in self.snapshot.fields:
            if field not in columns:
                columns[field] = self._field(field)
        return Table(columns)

    def _field(self, field: str) -> Column:
        index = self.snapshot.field_index(field)
        if index is not None:
            return index.take(self.study, self.row)
        column = self.snapshot.column
        pairs = zip(self.study.tolist(), self.row.tolist(), strict=True)
        return _joined([(column(study, field), row) for study, row in pairs])


def _joined(cells: list[tuple[Column | None, int]]) -> Column:
    """Column of single values of number, integer or bool columns."""
    columns = [column for column, _ in cells if column is not None]
    if not columns or any(column.kind != "number" for column in columns):
        return Column.of([_value(column, row) for column, row in cells])
    # numbers keep their precision, which Python values would lose
    values = np.full(len(cells), np.nan, np.result_type(*{column.values.dtype for column in columns}))
    for i, (column, row) in enumerate(cells):
        if column is not None:
            values[i] = column.values[row]
    return Column("number", values)


def _value(column: Column | None, row: int) -> Any:
    return None if column is None else column.take(np.array([row])).to_list()[0]
