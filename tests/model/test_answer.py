"""Results: tables, frames, JSON, errors that cross a wire."""

from __future__ import annotations

import json
import pickle
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insignia_model import Column, GeneReport, ScoreChunk, Scores, SearchResult, Table
from insignia_model.errors import (
    AtlasCorrupt,
    CellNotFound,
    InsigniaError,
    LimitExceeded,
    MissingExtra,
    NoGeneResolved,
    RequestError,
    UnknownField,
)
from insignia_model.genes import Themselves
from insignia_model.optional import extra


def table() -> Table:
    return Table(
        {
            "study": Column.text(["a", "b", "a"]),
            "cell_id": Column.text(["x", "y", "z"]),
            "score": Column.numbers(np.array([0.1, np.nan, 0.3], np.float32)),
            "tissue": Column.text(["lung", None, "lung"]),
            "n": Column("integer", np.array([1, 2, 3]), missing=np.array([False, True, False])),
            "ok": Column("bool", np.array([True, False, True])),
        }
    )


def result(**changes: Any) -> SearchResult:
    values: dict[str, Any] = {
        "engine": "sparse",
        "aggregate": "mean",
        "hits": "percentile:95",
        "n_cells": 3,
        "n_hits": 1,
        "cutoff": 0.25,
        "elapsed_ms": 1.23456,
        "genes": GeneReport({"p53": "TP53"}, ("x",)),
        "group_by": ("tissue",),
        "cell_table": table(),
        "group_table": Table({"tissue": Column.text(["lung", None]), "n_cells": Column.integers([2, 1])}),
        "sample_table": Table({}),
    }
    return SearchResult(**values | changes)


def test_rows_are_python_values_and_none_where_missing() -> None:
    rows = list(table().rows())
    assert rows[0] == {"study": "a", "cell_id": "x", "score": 0.1, "tissue": "lung", "n": 1, "ok": True}
    assert rows[1]["score"] is rows[1]["tissue"] is rows[1]["n"] is None
    assert len(table()) == 3
    assert len(Table({})) == 0
    assert list(Table({}).rows()) == []


@given(st.lists(st.one_of(st.none(), st.text(max_size=3))))
def test_text_is_kept_by_dictionary(values: list[str | None]) -> None:
    column = Column.text(values)
    assert column.to_list() == values
    assert len(set(column.dictionary)) == len(column.dictionary)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_a_single_precision_number_has_the_fewest_digits_that_denote_it(values: list[float]) -> None:
    column = Column.numbers(np.array(values, np.float32))
    assert np.array_equal(np.array(column.to_list(), np.float32), column.values)
    assert all(len(Decimal(repr(v)).normalize().as_tuple().digits) <= 9 for v in column.to_list())


def test_a_frame_keeps_kinds_and_missing_values() -> None:
    frame = table().to_frame()
    assert isinstance(frame["tissue"].dtype, pd.CategoricalDtype)
    assert (str(frame["n"].dtype), str(frame["ok"].dtype), str(frame["score"].dtype)) == (
        "Int64",
        "bool",
        "float32",
    )
    assert frame["n"].isna().tolist() == frame["tissue"].isna().tolist() == [False, True, False]


def test_the_head_of_a_table_is_its_first_rows() -> None:
    assert list(table().head(2).rows()) == list(table().rows())[:2]
    assert len(table().head(9)) == 3


def test_a_notebook_shows_a_table_and_how_much_is_left() -> None:
    assert "and 2 more rows" in table()._repr_html_(max_rows=1)
    shown = result(signature="<b>")._repr_html_()
    assert "&lt;b&gt;: 1 hits (percentile:95, cut-off 0.25) among 3 cells, 1 genes used, 1 missing" in shown
    assert "<table" in shown
    assert "cut-off none" in repr(result(cutoff=None))


def test_json_separates_metadata_and_groups() -> None:
    found = json.loads(json.dumps(result().to_dict(), allow_nan=False))
    assert list(found["genes"])[:2] == ["resolved", "missing"]
    assert found["genes"]["resolved"] == ["TP53"]
    assert found["genes"]["missing"] == ["x"]
    assert found["elapsed_ms"] == 1.235
    assert found["cells"][1] == {
        "study": "b",
        "cell_id": "y",
        "score": None,
        "metadata": {"tissue": None, "n": None, "ok": False},
    }
    assert found["groups"] == [
        {"group": {"tissue": "lung"}, "n_cells": 2},
        {"group": {"tissue": None}, "n_cells": 1},
    ]


def test_a_result_offers_frames() -> None:
    assert result().cells.shape == (3, 6)
    assert result().groups["n_cells"].tolist() == [2, 1]
    assert result().samples.empty


def test_scores_are_joined_in_order() -> None:
    first = ScoreChunk("a", np.array([0, 2]), np.array([1.0, 2.0]), ("x", "y"))
    second = ScoreChunk("b", np.array([5]), np.array([3.0]), ("z",))
    scores = Scores((first, second), GeneReport({"A": "A"}))
    assert (len(scores), scores.values.tolist()) == (3, [1.0, 2.0, 3.0])
    assert scores.to_frame().to_dict("list") == {
        "study": ["a", "a", "b"],
        "row": [0, 2, 5],
        "cell_id": ["x", "y", "z"],
        "score": [1.0, 2.0, 3.0],
    }
    assert list(scores) == [first, second]
    assert len(Scores(()).to_frame()) == len(Scores(()).values) == 0


# --- errors ---------------------------------------------------------------------------------------------

ERRORS = [
    NoGeneResolved({f"G{n}": "not in the atlas" for n in range(12)}),
    UnknownField("tisue", ("tissue", "sex")),
    CellNotFound("s", "c"),
    LimitExceeded("k", 10_000, 1_000, "ask for fewer"),
    AtlasCorrupt("f", "is short"),
    MissingExtra("a plot", "plot", "matplotlib"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.reason)
def test_an_error_crosses_a_wire_as_its_class_message_and_data(error: InsigniaError) -> None:
    back = InsigniaError.from_wire(error.reason, error.message, error.data)
    assert type(back) is type(error)
    assert (str(back), back.data) == (str(error), error.data)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.reason)
def test_an_error_can_be_sent_between_processes(error: InsigniaError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert back.__dict__ == error.__dict__


def test_an_error_of_unknown_reason_is_of_the_class_that_reads_it() -> None:
    assert type(RequestError.from_wire("NEWER", "text", {})) is RequestError


def test_data_of_another_machine_cannot_replace_what_an_error_says() -> None:
    error = InsigniaError.from_wire("CELL_NOT_FOUND", "text", {"message": "x", "data": "y", "study": "s"})
    assert (error.message, str(error), error.data["message"], error.study) == ("text", "text", "x", "s")  # type: ignore[attr-defined]


def test_every_class_of_error_has_its_own_reason() -> None:
    assert InsigniaError.by_reason["NO_GENE_RESOLVED"] is NoGeneResolved
    assert all(kind.reason == reason for reason, kind in InsigniaError.by_reason.items())


def test_a_missing_module_names_the_extra_that_brings_it() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'insignia\[plot\]'"), extra("plot", "a plot"):
        import no_such_module_anywhere  # noqa: F401


def test_a_broken_install_is_not_taken_for_a_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError), extra("plot", "a plot"):
        import insignia_model.absent  # noqa: F401
    with pytest.raises(ImportError), extra("plot", "a plot"):
        from json import absent  # noqa: F401


def test_scores_of_no_cell_have_columns_of_the_right_kinds() -> None:
    frame = Scores((), has_cell_ids=True).to_frame()
    # pandas 3 has a type of text beside object
    kinds = frame.dtypes.astype(str).replace("str", "object").to_dict()
    assert kinds == {"study": "object", "row": "int64", "cell_id": "object", "score": "float32"}
    assert list(Scores(()).to_frame()) == ["study", "row", "score"]


def test_frames_have_no_categories_that_no_row_has() -> None:
    frame = Table({"type": Column.text(["a", "b", "c", "a"])}).head(1).to_frame()
    assert frame.groupby("type", observed=False).size().to_dict() == {"a": 1}


def test_what_is_long_is_shown_short_and_compared_as_itself() -> None:
    chunk = ScoreChunk("a", np.arange(10_000), np.ones(10_000), tuple(map(str, range(10_000))))
    scores = Scores((chunk,), GeneReport({"A": "A"}), True)
    assert repr(scores) == "<Scores of 10,000 cells of 1 studies, 1 genes used>"
    assert len(repr(chunk)) < 200
    assert repr(table()) == "<Table of 3 rows: study, cell_id, score, tissue, n, ok>"
    assert scores == scores != Scores((chunk,))
    assert table() != table()


def test_names_that_are_looked_up_late_can_be_pickled() -> None:
    late = Themselves(2, lambda: ["A", "B"])
    assert pickle.loads(pickle.dumps(late)) == {"A": "A", "B": "B"}
