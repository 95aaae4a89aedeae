"""Metadata on disk by study, so that memory holds one folder's or one study's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from insignia_index.build.errors import ShapeMismatch
from insignia_index.build.signature.cells import Cells
from insignia_index.build.signature.folders import Folder
from insignia_index.build.tables import read_table

_ARROW = {
    "bool": pa.bool_(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "text": pa.string(),
    "missing": pa.float64(),
}
_PANDAS = {pa.bool_(): pd.BooleanDtype(), pa.int64(): pd.Int64Dtype()}


class CellRows:
    """Cells of one folder in a Parquet file: a row group a study, the ids first, then the columns."""

    def __init__(self, path: Path, groups: dict[int, int], folder: str, columns: list[str]) -> None:
        self._file = pq.ParquetFile(path)
        self._groups = groups
        self._folder = folder
        self._columns = columns

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, study: int) -> pd.DataFrame | None:
        """A study's cells in the order of the folder, index: ids as they are written; None: it has none."""
        if study not in self._groups:
            return None
        table = self._file.read_row_group(self._groups[study]).to_pandas(types_mapper=_PANDAS.get)
        rows: pd.DataFrame = table.set_index("0").set_axis(self._columns, axis=1)
        return rows

    def named(self, study: int) -> pd.DataFrame | None:
        """The same with a column of a name that no metadata has: the folder's."""
        rows = self.read(study)
        return None if rows is None else rows.assign(**{FOLDER: self._folder})


#: A name that no column of a table can have, as text never contains NUL.
FOLDER = "\0folder"


def write_cell_rows(
    path: Path, cells: Cells, which: int, folder: Folder, wanted: npt.NDArray[np.bool_]
) -> CellRows:
    """Write the cells of the ``wanted`` studies, bool (n_studies,), of the folder number ``which``."""
    columns, study_of = cells.columns[which], cells.study_of[which]
    table = read_table(folder.metadata, {name for name, kind in cells.kinds.items() if kind == "text"})
    if len(table) != len(study_of):
        raise ShapeMismatch(folder.metadata, "the metadata table, read again,", len(table), len(study_of))
    # Arrow wants names that are text and stand once: the columns' places
    kinds = [_ARROW[cells.kinds[name]] for name in columns]
    schema = pa.schema([("0", pa.string()), *((str(i), kind) for i, kind in enumerate(kinds, start=1))])
    order = np.argsort(study_of, kind="stable")
    starts = np.searchsorted(study_of[order], np.arange(len(wanted) + 1))
    groups: dict[int, int] = {}
    with pq.ParquetWriter(path, schema) as writer:
        for study in np.flatnonzero(wanted & (np.diff(starts) > 0)).tolist():
            rows = table.iloc[order[starts[study] : starts[study + 1]]]
            arrays = [pa.array(rows.index.to_numpy(object), pa.string())]
            arrays += [_array(rows.iloc[:, i], kind) for i, kind in enumerate(kinds)]
            groups[study] = len(groups)
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=len(rows))
    return CellRows(path, groups, folder.name, columns)


def _array(values: pd.Series[Any], kind: pa.DataType) -> pa.Array:
    if values.isna().all():
        return pa.nulls(len(values), kind)
    if kind == pa.float64():  # whole numbers too, to the nearest that it holds
        values = values.astype(np.float64)
    return pa.array(values.to_numpy(), kind, from_pandas=True)


def read_study(folders: Sequence[CellRows], study: int, cells: Cells) -> pd.DataFrame:
    """A study's cells in the order of folder and row: unique ids, all columns of its folders."""
    parts = [part for folder in folders if (part := folder.named(study)) is not None]
    table = pd.concat(parts) if len(parts) > 1 else parts[0]
    folder = table.pop(FOLDER)
    table = table.reindex(columns=cells.columns_of(study))
    sample = cells.options.sample_field or "sample"
    table.index = unique_ids(table.index, folder, table.get(sample))
    return table.assign(**{cells.folder_field: folder.to_numpy()}) if cells.adds_folder else table


def unique_ids(ids: pd.Index[Any], folder: pd.Series[Any], sample: pd.Series[Any] | None) -> Any:
    """Index of a study's cells: their ids, with the folder before them if any repeats, then also the sample.

    Published ids number the cells of a folder or are barcodes; neither is unique in a study. Ids that
    repeat even so are left to be refused.
    """
    if ids.is_unique:
        return ids
    prefix = folder.to_numpy(object)
    with_folder = pd.Index(prefix + "/" + ids.to_numpy(object))
    if with_folder.is_unique or sample is None:
        return with_folder
    return pd.Index(prefix + "/" + sample.astype(str).to_numpy(object) + "/" + ids.to_numpy(object))
