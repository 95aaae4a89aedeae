"""Wire format: what a server encodes, the client reads back unchanged."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insignia_client import _convert, _tables
from insignia_model import Column, Condition, GeneReport, HitRule, ScoreChunk, SearchRequest, Signature, Table
from insignia_proto.v1 import insignia_pb2 as pb

NAMES = st.text(st.characters(codec="utf-8"), max_size=8)
INT64 = st.integers(-(2**63), 2**63 - 1)
DOUBLES = st.floats(allow_nan=True, allow_infinity=True)


@st.composite
def columns(draw: st.DrawFn, n: int) -> Column:
    def values(of: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(of, min_size=n, max_size=n))

    missing = np.array(values(st.booleans()), dtype=np.bool_) if draw(st.booleans()) else None
    kind = draw(st.sampled_from(["category", "float32", "float64", "integer", "bool"]))
    if kind == "category":
        dictionary = draw(st.lists(NAMES, unique=True, max_size=4))
        codes = values(st.integers(-1, len(dictionary) - 1))
        return Column("category", np.array(codes, dtype=np.int32), tuple(dictionary))
    if kind == "integer":
        return Column("integer", np.array(values(INT64), dtype=np.int64), missing=missing)
    if kind == "bool":
        return Column("bool", np.array(values(st.booleans()), dtype=np.bool_), missing=missing)
    width = 32 if kind == "float32" else 64
    return Column("number", np.array(values(st.floats(width=width)), dtype=kind))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    n = draw(st.integers(0, 6))
    names = draw(st.lists(NAMES, unique=True, max_size=5))
    return Table({name: draw(columns(n)) for name in names})


@given(tables())
def test_a_table_comes_back_as_it_was(encode: Any, table: Table) -> None:
    back = _tables.table(pb.Table.FromString(encode.table(table).SerializeToString()))
    assert list(back.columns) == list(table.columns)
    for name, column in table.columns.items():
        same = back[name]
        assert (same.kind, same.values.dtype, tuple(same.dictionary)) == (
            column.kind,
            column.values.dtype,
            tuple(column.dictionary),
        )
        np.testing.assert_array_equal(same.values, column.values)
        assert same.to_list() == column.to_list()


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.floats(width=32)), max_size=20),
    st.booleans(),
    st.booleans(),
)
def test_scores_come_back_as_they_were(encode: Any, cells: Any, single: bool, names: bool) -> None:
    rows = np.array([row for row, _ in cells], dtype=np.int64)
    scores = np.array([score for _, score in cells], dtype=np.float32 if single else np.float64)
    chunk = ScoreChunk("s", rows, scores, tuple(f"c{row}" for row in rows) if names else ())
    back = _convert.score_chunk(pb.ScoresResponse.FromString(encode.chunk(chunk).SerializeToString()))
    assert (back.study, back.cell_ids, back.scores.dtype) == ("s", chunk.cell_ids, scores.dtype)
    np.testing.assert_array_equal(back.rows, rows)
    np.testing.assert_array_equal(back.scores, scores)


@pytest.mark.parametrize("n", [0, 1, 15, 16, 31, 32, 2047, 2048, 4096, 65_536])
def test_numbers_are_read_whatever_their_count_and_what_a_newer_server_adds(n: int) -> None:
    values = np.arange(n) / 7
    for message, dtype in (
        (pb.FloatValues(values=values), np.float32),
        (pb.DoubleValues(values=values), np.float64),
    ):
        newer = message.SerializeToString() + b"\x7a\x03abc"  # field 15, which this version does not know
        name = "floats" if dtype is np.float32 else "doubles"
        column = _tables.column(pb.Column(name="x", **{name: type(message).FromString(newer)}))
        np.testing.assert_array_equal(column.values, values.astype(dtype))
        assert column.values.dtype == dtype
        assert column.values.flags.writeable


@given(st.dictionaries(NAMES, NAMES, max_size=5), st.lists(NAMES, max_size=5))
def test_a_gene_report_comes_back_as_it_was(encode: Any, resolved: Any, missing: Any) -> None:
    report = GeneReport(resolved, tuple(missing))
    assert _convert.gene_report(encode.genes(report)) == report


@given(st.sampled_from(["percentile", "quantile", "value", "zscore"]), st.floats(0, 1))
def test_a_hit_rule_keeps_its_kind_and_all_digits(kind: str, value: float) -> None:
    message = _convert.hit_rule(HitRule(kind, value))
    assert (message.WhichOneof("rule"), getattr(message, kind)) == (kind, value)


def test_weights_are_sent_only_where_they_say_something() -> None:
    assert list(_convert.signature(Signature.of(["A", "B"])).weights) == []
    assert list(_convert.signature(Signature.of({"A": 1, "B": -2})).weights) == [1, -2]


def test_every_operator_has_a_code() -> None:
    from insignia_model.condition import OPERATORS

    assert set(_convert.OPERATOR) == set(OPERATORS)
    assert len(set(_convert.OPERATOR.values())) == len(OPERATORS) == len(pb.Operator.values()) - 1
    message = _convert.condition(Condition("age", ">=", (40.0,)))
    assert (message.field, message.operator, message.values[0].number) == (
        "age",
        pb.OPERATOR_GREATER_EQUAL,
        40.0,
    )


@pytest.mark.parametrize(
    "bad",
    [
        pb.Column(name="x"),
        pb.Column(name="x", categories=pb.CategoryValues(dictionary=["a"], codes=[2])),
        pb.Column(name="x", integers=pb.IntegerValues(values=[1, 2], missing=[True])),
    ],
)
def test_columns_that_contradict_themselves_are_refused(bad: pb.Column) -> None:
    with pytest.raises(_tables.Malformed):
        _tables.column(bad)


@pytest.mark.parametrize(
    "bad",
    [
        pb.ScoresResponse(study="s"),
        pb.ScoresResponse(study="s", rows=[1], floats=pb.FloatValues(values=[1, 2])),
        pb.ScoresResponse(study="s", cell_ids=["a"], floats=pb.FloatValues(values=[1, 2])),
    ],
)
def test_scores_that_contradict_themselves_are_refused(bad: pb.ScoresResponse) -> None:
    with pytest.raises(_tables.Malformed):
        _convert.score_chunk(bad)
    with pytest.raises(_tables.Malformed):
        _convert.gene_report(pb.GeneReport(asked=["a"]))


def test_a_usual_answer_is_read_in_a_moment(encode: Any, fake_atlas: Any) -> None:
    request = SearchRequest.of(["CD14"])
    answer = encode.result(fake_atlas.run(request)).SerializeToString()
    took = []
    for _ in range(20):
        start = time.perf_counter()
        _convert.search_result(pb.SearchResponse.FromString(answer), request)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.002  # 0.2 ms on a quiet core
