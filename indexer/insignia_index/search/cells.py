"""Records of cells, assembled from metadata columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.snapshot import Snapshot
from insignia_model.errors import CellNotFound
from insignia_model.request import CellId
from insignia_model.table import Column, Table

Ints = npt.NDArray[np.int64]


def cell_table(
    snapshot: Snapshot,
    study: Ints,
    row: Ints,
    scores: npt.NDArray[Any] | None = None,
    parts: dict[str, Column] | None = None,
) -> Table:
    """study, cell_id, [score, parts,] and every metadata field of the cells (study[i], row[i]), in order."""
    fields = snapshot.cell_fields(study, row)
    columns = {"study": fields["study"], "cell_id": Column.text(snapshot.cell_names(study, row))}
    if scores is not None:
        columns["score"] = Column.numbers(scores)
        columns |= parts or {}
    for field, column in fields.items():
        columns.setdefault(field, column)
    return Table(columns)


def find_cells(snapshot: Snapshot, ids: Iterable[CellId]) -> tuple[Ints, Ints]:
    """Study, and row in the study, of cells, int64 (n,) each; `StudyNotFound`, `CellNotFound`."""
    asked = list(ids)
    if len(asked) == 1:  # as most are, and the arrays below take longer than all else
        index = snapshot.study_index(asked[0].study)
        place = snapshot.cell_ids(index).row_of(asked[0].cell_id)
        if place is None:
            raise CellNotFound(*asked[0])
        return np.array([index]), np.array([place])
    study = np.array([snapshot.study_index(cell.study) for cell in asked], np.int64)
    row = np.empty(len(asked), np.int64)
    for index in np.unique(study).tolist():
        of_study = np.flatnonzero(study == index)
        found = snapshot.cell_ids(index).rows_of([asked[i].cell_id for i in of_study.tolist()])
        for i, place in zip(of_study.tolist(), found, strict=True):
            if place is None:
                raise CellNotFound(*asked[i])
            row[i] = place
    return study, row


def places(snapshot: Snapshot, rows: Ints) -> tuple[Ints, Ints]:
    """Study, and row in the study, of rows of the snapshot."""
    study = snapshot.study_starts.searchsorted(rows, side="right") - 1
    return study, rows - snapshot.study_starts[study]
