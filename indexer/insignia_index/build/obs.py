"""Metadata: which study each cell is of, and every column of obs as a field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api import types

from insignia_index.build.errors import (
    DuplicateCellId,
    EmptyStudy,
    InvalidText,
    MissingField,
    ReservedField,
)
from insignia_index.build.inputs import InputFile
from insignia_model.table import Column

#: Column names of results; a field of such a name would hide them.
RESERVED = ("cell_id", "score")


def study_of_cells(file: InputFile, obs: pd.DataFrame) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Study index of every cell (n_cells,) and the names of the studies, in order of appearance."""
    name = file.study_field or ("study" if "study" in obs and file.study is None else None)
    if file.study is not None or name is None:
        study = file.study or file.path.name.split(".")[0]
        if len(obs) == 0:
            raise EmptyStudy(file.path, study)
        return np.zeros(len(obs), np.int64), [study]
    if name not in obs:
        raise MissingField(file.path, name, f"is not there; it has {', '.join(map(str, obs)) or 'none'}")
    codes, names = pd.factorize(obs[name])
    if len(names) == 0:
        raise EmptyStudy(file.path, file.path.name)
    if (codes < 0).any():
        first = obs.index[int(np.argmax(codes < 0))]
        raise MissingField(file.path, name, f"has no value for cell {first!r}; every cell needs a study")
    return codes.astype(np.int64), [_text(file.path, str(n), f"a value of {name!r}") for n in names]


def cell_ids(path: Path, study: str, index: pd.Index[Any]) -> list[str]:
    """Cell ids of a study's rows; raises `DuplicateCellId`."""
    repeated = index[index.duplicated()]
    if len(repeated):
        raise DuplicateCellId(path, study, [str(i) for i in repeated.unique()])
    return [_text(path, str(i), "a cell id") for i in index]


def field_columns(file: InputFile, obs: pd.DataFrame, study: str) -> dict[str, Column]:
    """Columns of a study's rows by field name; ``sample`` is always among them."""
    sample = file.sample_field or "sample"
    if file.sample_field is not None and sample not in obs:
        raise MissingField(file.path, sample, f"is not there; it has {', '.join(map(str, obs)) or 'none'}")
    columns: dict[str, Column] = {}
    for name in obs.columns:
        if str(name) in file.drop_fields or str(name) == (file.study_field or "study"):
            continue
        if str(name) in RESERVED:
            raise ReservedField(file.path, str(name))
        field = _text(file.path, str(name), "a column name")
        columns[field] = field_column(file.path, field, obs[name])
    if sample != "sample" and sample in columns:
        columns["sample"] = columns[sample]
    # a study that does not tell its samples is one sample
    columns.setdefault("sample", Column.text([study] * len(obs)))
    if columns["sample"].kind != "category":
        columns["sample"] = Column.text([None if v is None else str(v) for v in columns["sample"].to_list()])
    return columns


def field_column(path: Path, field: str, values: pd.Series[Any]) -> Column:
    """Column of the kind that the pandas dtype has; missing values stay missing."""
    missing = np.asarray(values.isna(), np.bool_)
    mask = missing if missing.any() else None
    if types.is_bool_dtype(values.dtype):
        return Column("bool", np.asarray(values.fillna(False), np.bool_), missing=mask)
    if types.is_integer_dtype(values.dtype):
        return Column("integer", np.asarray(values.fillna(0)).astype(np.int64), missing=mask)
    if types.is_float_dtype(values.dtype):
        numbers = values.to_numpy(np.float64, na_value=np.nan)
        single = numbers.astype(np.float32)
        exact = np.array_equal(single.astype(np.float64), numbers, equal_nan=True)
        return Column("number", single if exact else numbers)
    if isinstance(values.dtype, pd.CategoricalDtype):
        names = [str(c) for c in values.cat.categories]
        codes = values.cat.codes.to_numpy(np.int32)
    else:
        present = values.to_numpy(object)[~missing]
        codes = np.full(len(values), -1, np.int32)
        found, distinct = pd.factorize(np.array([str(v) for v in present], object))
        codes[~missing] = found
        names = [str(name) for name in distinct]
    if any("\0" in name for name in names):
        raise InvalidText(path, f"a value of column {field!r}")
    used, compact = np.unique(codes[codes >= 0], return_inverse=True)
    codes[codes >= 0] = compact
    return Column("category", codes, [names[code] for code in used.tolist()])


def _text(path: Path, text: str, where: str) -> str:
    if "\0" in text or not text:
        raise InvalidText(path, where)
    return text
