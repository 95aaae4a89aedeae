"""Which cells pass a filter."""

from __future__ import annotations

import math
import operator
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.snapshot import Snapshot
from insignia_model.condition import Condition, Value, number
from insignia_model.errors import FieldNotComparable, InvalidArgument, UnknownField
from insignia_model.table import Column

_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

_LARGEST = sys.float_info.max
_SINGLE = float(np.finfo(np.float32).max)

Mask = npt.NDArray[np.bool_]


def check_fields(snapshot: Snapshot, fields: tuple[str, ...]) -> None:
    """Raise `UnknownField` for a name that no study has."""
    for field in fields:
        if field not in snapshot.fields:
            raise UnknownField(field, snapshot.fields)


def study_mask(snapshot: Snapshot, study: int, where: tuple[Condition, ...]) -> Mask | None:
    """Cells of a study that pass all conditions, bool (n_cells,); None if all of them do."""
    mask: Mask | None = None
    for condition in where:
        passes = _passes(snapshot, study, condition)
        if passes is True:
            continue
        if passes is False:
            return np.zeros(snapshot.studies[study].n_cells, np.bool_)
        mask = passes if mask is None else mask & passes
    return mask


def has_value(column: Column, field: str, value: Value) -> Mask:
    """Which values of the column are the one that a condition would find by this value, bool (n,)."""
    return _is_in(column, Condition(field, "in", (value,))) & ~_missing(column)


def _passes(snapshot: Snapshot, study: int, condition: Condition) -> Mask | bool:
    column = snapshot.column(study, condition.field)
    if column is None:  # every value is missing
        return condition.op in ("missing", "not in")
    missing = _missing(column)
    if condition.op == "missing":
        return missing
    if condition.op == "not missing":
        return ~missing
    if condition.op in _ORDERS:
        if column.kind not in ("number", "integer"):
            raise FieldNotComparable(condition.field, column.kind, condition.op)
        (bound,) = condition.values
        passes: Mask = _ORDERS[condition.op](column.values, _in_precision(column, bound)) & ~missing
        return passes
    listed = _is_in(column, condition) & ~missing
    return ~listed if condition.op == "not in" else listed


def _missing(column: Column) -> Mask:
    if column.kind == "category":
        return np.asarray(column.values < 0)
    if column.kind == "number":
        return np.asarray(np.isnan(column.values))
    return np.zeros(len(column), np.bool_) if column.missing is None else column.missing


def _is_in(column: Column, condition: Condition) -> Mask:
    if column.kind == "category":
        wanted = {text for value in condition.values for text in _texts(value)}
        codes = [code for code, name in enumerate(column.dictionary) if name in wanted]
        if len(codes) == 1:
            return np.asarray(column.values == codes[0])
        return np.isin(column.values, codes)
    if column.kind == "bool":
        return np.isin(column.values, [_bool(condition.field, value) for value in condition.values])
    numbers = [_number(condition.field, value) for value in condition.values]
    if column.kind == "integer":
        whole = [int(n) for n in numbers if n == n // 1 and -(2**63) <= n < 2**63]
        return np.isin(column.values, np.array(whole, np.int64))
    bounds = [_in_precision(column, n) for n in numbers]
    return np.isin(column.values, [bound for bound in bounds if bound.dtype == column.values.dtype])


def _in_precision(column: Column, value: Any) -> Any:
    """The number in the precision of a number column, so that 0.1 finds what was written as 0.1.

    A float64 if float32 cannot hold it; integers are compared with the number itself.
    """
    if column.kind == "integer":
        return value
    value = math.copysign(math.inf, value) if abs(value) > _LARGEST else float(value)
    single = column.values.dtype == np.float32 and not _SINGLE < abs(value) < math.inf
    return np.float32(value) if single else np.float64(value)


def _texts(value: Value) -> set[str]:
    """How a value may be written; truth values in either way."""
    return {str(value), str(value).lower()} if isinstance(value, bool) else {str(value)}


def _bool(field: str, value: Value) -> bool:
    if str(value).lower() not in _BOOLS:
        raise InvalidArgument(f"where {field!r}", f"the field is true or false, not {value!r}")
    return _BOOLS[str(value).lower()]


def _number(field: str, value: Value) -> int | float:
    try:
        return number(value) if isinstance(value, str) else value
    except ValueError as error:
        raise InvalidArgument(f"where {field!r}", f"the field is a number, not {value!r}") from error
