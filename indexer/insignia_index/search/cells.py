"""Records of cells, assembled from metadata columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.snapshot import Snapshot
from insignia_model.table import Column, Table


def locate(snapshot: Snapshot, rows: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """(study, row in the study) of rows of the snapshot."""
    study = np.searchsorted(snapshot.study_starts, rows, side="right") - 1
    return list(zip(study.tolist(), (rows - snapshot.study_starts[study]).tolist(), strict=True))


def cell_table(
    snapshot: Snapshot, places: list[tuple[int, int]], scores: npt.NDArray[Any] | None = None
) -> Table:
    """study, cell_id, [score,] and every metadata field of the cells at ``places``, in their order."""
    ids = {study: snapshot.cell_ids(study) for study in {study for study, _ in places}}
    columns = {
        "study": Column.text([snapshot.studies[study].study for study, _ in places]),
        "cell_id": Column.text([ids[study][row] for study, row in places]),
    }
    if scores is not None:
        columns["score"] = Column.numbers(scores.copy())
    for field in snapshot.fields:
        if field not in columns:
            columns[field] = _field(snapshot, field, places)
    return Table(columns)


def _field(snapshot: Snapshot, field: str, places: list[tuple[int, int]]) -> Column:
    studies = {study: snapshot.column(study, field) for study in {study for study, _ in places}}
    kinds = {column.kind for column in studies.values() if column is not None}
    if kinds <= {"category"}:
        return Column.text(_category_names(studies, places))
    if kinds == {"number"}:
        dtypes = [c.values.dtype for c in studies.values() if c is not None]
        values = np.full(len(places), np.nan, np.result_type(*dtypes))
        for i, (study, row) in enumerate(places):
            if (column := studies[study]) is not None:
                values[i] = column.values[row]
        return Column("number", values)
    return Column.of([_value(studies[study], row) for study, row in places])


def _category_names(studies: dict[int, Column | None], places: list[tuple[int, int]]) -> list[str | None]:
    """Names of a category field; the loop that a search of 100 cells runs through once a field."""
    readers = {
        study: (column.values.item, column.dictionary) for study, column in studies.items() if column is not None
    }
    names: list[str | None] = []
    for study, row in places:
        if study not in readers:
            names.append(None)
            continue
        code_at, dictionary = readers[study]
        code = code_at(row)
        names.append(None if code < 0 else dictionary[code])
    return names


def _value(column: Column | None, row: int) -> Any:
    if column is None:
        return None
    part = Column(
        column.kind,
        column.values[row : row + 1],
        column.dictionary,
        None if column.missing is None else column.missing[row : row + 1],
    )
    return part.to_list()[0]
