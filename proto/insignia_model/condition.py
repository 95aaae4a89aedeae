"""Conditions on metadata fields; a filter is the AND of its conditions."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from insignia_model.errors import InvalidArgument

Value: TypeAlias = str | float | int | bool

#: Operator: how it is written. A cell whose value is missing passes only "missing" and "not in".
OPERATORS = ("in", "not in", "<", "<=", ">", ">=", "missing", "not missing")


@dataclass(frozen=True, slots=True)
class Comparison:
    """An operator and its values, not yet bound to a field: the value side of a ``where`` mapping."""

    op: str
    values: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """``field op values``; "in" and "not in" take any number of values, orders take one number."""

    field: str
    op: str
    values: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        where = f"where {self.field!r}"
        object.__setattr__(self, "values", tuple(_flat(self.field, self.values)))
        if self.op not in OPERATORS:
            raise InvalidArgument(where, f"operator {self.op!r} is not one of {', '.join(OPERATORS)}")
        if self.op in ("in", "not in") and not self.values:
            raise InvalidArgument(where, f"{self.op!r} needs at least one value")
        if self.op in ("missing", "not missing") and self.values:
            raise InvalidArgument(where, f"{self.op!r} takes no value")
        if self.op[0] in "<>" and (len(self.values) != 1 or not _is_number(self.values[0])):
            raise InvalidArgument(where, f"{self.op!r} needs one number, not {list(self.values)}")

    def __str__(self) -> str:
        if self.op.endswith("missing"):
            return f"{self.field} is {self.op}"
        sign = {"in": "=", "not in": "!="}.get(self.op, self.op)
        return f"{self.field}{sign}{','.join(_written(v) for v in self.values)}"


WhereLike: TypeAlias = (
    Mapping[str, Value | Comparison | Iterable[Value]] | Iterable[Condition | str] | Condition | str | None
)


def conditions(where: WhereLike) -> tuple[Condition, ...]:
    """Conditions from a mapping {field: value | list | comparison}, from conditions, or from their texts."""
    if where is None:
        return ()
    if isinstance(where, str):
        return (parse_condition(where),)
    if isinstance(where, Condition):
        return (where,)
    if isinstance(where, Mapping):
        return tuple(_bound(field, value) for field, value in where.items())
    return tuple(c if isinstance(c, Condition) else parse_condition(c) for c in where)


def not_in(*values: Value) -> Comparison:
    """Value is none of ``values`` (or of those in a list); cells without a value pass."""
    return Comparison("not in", values)


def lt(value: float) -> Comparison:
    """Number below ``value``."""
    return Comparison("<", (value,))


def le(value: float) -> Comparison:
    """Number at most ``value``."""
    return Comparison("<=", (value,))


def gt(value: float) -> Comparison:
    """Number above ``value``."""
    return Comparison(">", (value,))


def ge(value: float) -> Comparison:
    """Number at least ``value``."""
    return Comparison(">=", (value,))


def is_missing(missing: bool = True) -> Comparison:
    """No value (or, with False, any value)."""
    return Comparison("missing" if missing else "not missing")


_COMMA = re.compile(r"""("(?:[^"]|"")*")|\s*,\s*""")
_MISSING = re.compile(r"([^=!<>]+?)\s+is\s+(not\s+)?missing\s*", re.IGNORECASE)
_COMPARED = re.compile(r"([^=!<>]+?)\s*(!=|<=|>=|==?|<|>)\s*(.*)", re.DOTALL)


def parse_condition(text: str) -> Condition:
    """Condition from ``tissue=blood,lung``, ``tissue!=blood``, ``age>=40`` or ``disease is [not] missing``.

    A value that holds a comma is put in double quotes, as in CSV: ``cell_type="T cell, CD4+",B cell``.
    """
    if match := _MISSING.fullmatch(text):
        return Condition(match[1].strip(), "not missing" if match[2] else "missing")
    match = _COMPARED.fullmatch(text)
    if not match:
        raise InvalidArgument(
            "where",
            f"{text!r} is not a condition; write FIELD=VALUE[,VALUE...], FIELD!=VALUE, FIELD>=NUMBER "
            "or 'FIELD is missing'",
        )
    field, sign, rest = match[1].strip(), match[2], match[3].strip()
    if sign in ("=", "==", "!="):
        return Condition(field, "not in" if sign == "!=" else "in", _values(field, rest))
    try:
        return Condition(field, sign, (number(rest),))
    except ValueError as error:
        raise InvalidArgument(f"where {field!r}", f"{sign!r} needs a number, not {rest!r}") from error


def _bound(field: str, value: Value | Comparison | Iterable[Value]) -> Condition:
    if isinstance(value, Comparison):
        return Condition(field, value.op, value.values)
    return Condition(field, "in", tuple(_flat(field, (value,))))


def number(text: str) -> int | float:
    """The number that a text says: a whole one is exact, however large."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def _flat(field: str, values: Iterable[object]) -> Iterator[Value]:
    """Python's values; those of lists, arrays and the like one by one."""
    for value in values:
        if isinstance(value, Iterable) and not isinstance(value, str | bytes):
            yield from (_plain(field, each) for each in value)
        else:
            yield _plain(field, value)


def _plain(field: str, value: object) -> Value:
    """Give the Python value of a numpy scalar; refuse what no field can hold."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | float | int | bool):
        return value
    raise InvalidArgument(
        f"where {field!r}",
        f"{value!r} is not text, a number or a truth value; is_missing() asks for cells without a value",
    )


def _values(field: str, text: str) -> tuple[str, ...]:
    if not text:
        raise InvalidArgument(f"where {field!r}", "a value must follow the sign")
    # no blanks around commas that are not in quotes; what is in quotes stays as it is
    text = _COMMA.sub(lambda found: found[1] or ",", text)
    try:
        (row,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as error:
        raise InvalidArgument(f"where {field!r}", f"cannot read the values {text!r}: {error}") from error
    return tuple(row)


def _written(value: Value) -> str:
    text = str(value)
    # "=": after the sign it would be read as the second half of "=="
    needs_quotes = not text or text != text.strip() or set(text) & set(',"=\n\r')
    return '"' + text.replace('"', '""') + '"' if needs_quotes else text


def _is_number(value: Value) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)
