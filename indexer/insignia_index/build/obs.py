"""Metadata: which study each cell is of, and every column of obs as a field."""

from __future__ import annotations

from collections.abc import Collection
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
from insignia_index.build.tables import TAKEN_FOR_MISSING
from insignia_model.table import Column

#: Column names of results; a field of such a name would hide them.
RESERVED = ("study", "cell_id", "score", "score_up", "score_down")
#: Names of studies and fields are parts of catalog keys.
_NAME_BYTES = 300


def study_of_cells(file: InputFile, obs: pd.DataFrame) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Study index of every cell (n_cells,) and the names of the studies, in order of appearance."""
    name = file.study_field or ("study" if "study" in obs and file.study is None else None)
    if file.study is not None or name is None:
        study = _name(file.path, file.study or file.path.name.split(".")[0], "the study's name")
        if len(obs) == 0:
            raise EmptyStudy(file.path, study)
        return np.zeros(len(obs), np.int64), [study]
    if name not in obs:
        raise MissingField(file.path, name, f"is not there; it has {', '.join(map(str, obs)) or 'none'}")
    codes, names = pd.factorize(obs[name])
    if len(obs) == 0:
        raise EmptyStudy(file.path, file.path.name)
    if len(names) == 0:
        raise MissingField(file.path, name, "has no value for any cell; every cell needs a study")
    if (codes < 0).any():
        first = obs.index[int(np.argmax(codes < 0))]
        raise MissingField(file.path, name, f"has no value for cell {first!r}; every cell needs a study")
    return codes.astype(np.int64), [_name(file.path, str(n), f"a value of {name!r}") for n in names]


def cell_ids(path: Path, study: str, index: pd.Index[Any]) -> list[str]:
    """Cell ids of a study's rows; raises `DuplicateCellId`, `InvalidText`.

    ``path``: of the file that the ids are in.
    """
    if index.hasnans:
        place = int(np.argmax(index.isna()))
        raise InvalidText(path, f"the id of cell {place + 1:,} of study {study!r}", "is missing; give it one")
    repeated = index[index.duplicated()]
    if len(repeated):
        raise DuplicateCellId(path, study, [str(i) for i in repeated.unique()])
    return [_text(path, str(i), f"the id {str(i)!r} of a cell of study {study!r}") for i in index]


def field_columns(file: InputFile, obs: pd.DataFrame, study: str) -> dict[str, Column]:
    """Columns of a study's rows by field name; ``sample`` is always among them."""
    sample = file.sample_field or "sample"
    if file.sample_field is not None and sample not in obs:
        raise MissingField(file.path, sample, f"is not there; it has {', '.join(map(str, obs)) or 'none'}")
    check_sample(file, obs.columns)
    columns: dict[str, Column] = {}
    left_out = {*file.drop_fields, file.study_field or "study"}
    if reserved := [name for name in map(str, obs.columns) if name in RESERVED and name not in left_out]:
        raise ReservedField(file.path, *reserved)
    for column in obs.columns:
        name = str(column)
        if name in left_out:
            continue
        columns[_name(file.path, name, "a column name")] = field_column(file.path, name, obs[column])
    columns["sample"] = _samples(file, obs, study, columns.get(sample))
    return columns


def oversights(file: InputFile, obs: pd.DataFrame) -> list[str]:
    """What about a file's options may not be meant, as sentences."""
    notes = [
        f"{file.path.name} has no column {field!r} to leave out"
        for field in file.drop_fields
        if field not in obs
    ]
    if file.sample_field is None and "sample" not in obs:
        notes.append(
            f"{file.path.name} has no column 'sample': every study counts as one sample; "
            "--sample-field names another column"
        )
    for field, counts in obs.attrs.get(TAKEN_FOR_MISSING, {}).items():
        if field not in file.drop_fields:
            written = ", ".join(f"{text!r} of {n:,} cells" for text, n in counts.items())
            notes.append(f"column {field!r} of the metadata: {written} taken for a missing value")
    return notes


def check_sample(file: InputFile, columns: Collection[str]) -> None:
    """Raise `ReservedField` if a column ``sample`` would be lost to the field that is to be the sample."""
    field = file.sample_field or "sample"
    if field != "sample" and "sample" in columns and "sample" not in file.drop_fields:
        raise ReservedField(file.path, "sample", why=f"--sample-field {field} takes its place")


def _samples(file: InputFile, obs: pd.DataFrame, study: str, column: Column | None) -> Column:
    """Text column of the samples; a study that does not tell its samples is one."""
    if column is None and file.sample_field is not None:  # dropped as a field of its own
        column = field_column(file.path, file.sample_field, obs[file.sample_field])
    if column is None:
        return Column.text([study] * len(obs))
    if column.kind == "category":
        return column
    return Column.text([None if value is None else str(value) for value in column.to_list()])


def field_column(path: Path, field: str, values: pd.Series[Any]) -> Column:
    """Column of the kind that the pandas dtype has; missing values stay missing."""
    if _are_truth_values(values):
        values = values.astype(object).astype("boolean")
    missing = np.asarray(values.isna(), np.bool_)
    mask = missing if missing.any() else None
    if isinstance(values.dtype, pd.CategoricalDtype):
        names: Any = values.cat.categories
        codes = np.array(values.cat.codes, np.int32)  # a copy: to be changed
    elif types.is_bool_dtype(values.dtype):
        return Column("bool", np.asarray(values.fillna(False), np.bool_), missing=mask)
    elif types.is_integer_dtype(values.dtype) and not (values > np.iinfo(np.int64).max).any():
        return Column("integer", np.asarray(values.fillna(0)).astype(np.int64), missing=mask)
    elif types.is_float_dtype(values.dtype):
        numbers = values.to_numpy(np.float64, na_value=np.nan)
        with np.errstate(over="ignore"):
            single = numbers.astype(np.float32)
        exact = np.array_equal(single.astype(np.float64), numbers, equal_nan=True)
        return Column("number", single if exact else numbers)
    else:
        present = values.to_numpy(object)[~missing]
        codes = np.full(len(values), -1, np.int32)
        found, distinct = pd.factorize(np.array([str(v) for v in present], object))
        codes[~missing] = found
        names = distinct
    used, compact = np.unique(codes[codes >= 0], return_inverse=True)
    codes[codes >= 0] = compact
    texts = [str(name) for name in names[used]]  # of a study: a file's others are many
    if any("\0" in text for text in texts):
        raise InvalidText(path, f"a value of column {field!r}")
    return Column("category", codes, texts)


def _are_truth_values(values: pd.Series[Any]) -> bool:
    """Whether objects (which pandas makes of those with gaps) or categories are True and False."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        distinct: Collection[Any] = values.cat.categories
    elif values.dtype == object:
        distinct = values[values.notna()].to_numpy(object)
    else:
        return False
    return len(distinct) > 0 and all(isinstance(value, bool | np.bool_) for value in distinct)


def _text(path: Path, text: str, where: str) -> str:
    if "\0" in text or not text:
        raise InvalidText(path, where)
    if not text.isascii() and "\ud800" <= max(text) <= "\udfff":
        raise InvalidText(path, where, "is not Unicode text")
    return text


def _name(path: Path, text: str, where: str) -> str:
    if len(_text(path, text, where).encode()) > _NAME_BYTES:
        raise InvalidText(path, where, f"is longer than {_NAME_BYTES} bytes; shorten it")
    return text
