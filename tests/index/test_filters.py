"""Filters at their edges."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from insignia_index import Atlas
from insignia_model import Condition, ge, gt, is_missing, le, lt, not_in
from insignia_model.errors import FieldNotComparable, InvalidArgument, RequestError, UnknownField

from .made import build, study

BIG = 2**53


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    first = study(
        "A", 5, ["G"],
        tissue=["blood", "lung", "T cell, CD4+", "1", "true"],
        age=np.array([0.1, 20, -3, np.nan, np.inf], np.float32),
        count=pd.array([1, 2, BIG, BIG + 1, pd.NA], dtype="Int64"),
        flag=pd.array([True, False, True, pd.NA, False], dtype="boolean"),
    )  # fmt: skip
    path = build(tmp_path_factory.mktemp("filters"), [first, study("B", 2, ["G"], age=[0.1, 1e300])])
    with Atlas.open(path) as opened:
        yield opened


def passing(atlas: Atlas, where: Any) -> str:
    """Ids of the cells that pass, as A0 A1 ... B1."""
    frame = atlas.scores(["G"], where=where, cell_ids=True).to_frame()
    found = [study + cell[1:] for study, cell in zip(frame["study"], frame.get("cell_id", ()), strict=True)]
    assert atlas.search(["G"], where=where).n_cells == len(found)
    return " ".join(found)


WHERE: list[tuple[Any, str]] = [
    (None, "A0 A1 A2 A3 A4 B0 B1"),
    ({"study": "A"}, "A0 A1 A2 A3 A4"),
    ({"study": ["B", "C"]}, "B0 B1"),
    ({"study": not_in("A")}, "B0 B1"),
    ({"tissue": ["lung", "blood", "lung"]}, "A0 A1"),
    ('tissue="T cell, CD4+",lung', "A1 A2"),
    ({"tissue": 1}, "A3"),
    ({"tissue": True}, "A4"),
    ({"tissue": "nowhere"}, ""),
    ({"tissue": not_in("nowhere")}, "A0 A1 A2 A3 A4 B0 B1"),
    ({"tissue": not_in("blood")}, "A1 A2 A3 A4 B0 B1"),
    ({"tissue": is_missing()}, "B0 B1"),
    ({"tissue": is_missing(False)}, "A0 A1 A2 A3 A4"),
    ({"age": 0.1}, "A0 B0"),
    ("age=0.1,20", "A0 A1 B0"),
    ({"age": not_in(0.1)}, "A1 A2 A3 A4 B1"),
    ({"age": lt(0.1)}, "A2"),
    ({"age": le(0.1)}, "A0 A2 B0"),
    ({"age": gt(20)}, "A4 B1"),
    ({"count": gt(BIG)}, "A3"),
    (f"count>{BIG}", "A3"),
    (f"count>={BIG + 1}", "A3"),
    (f"count<{BIG + 1}", "A0 A1 A2"),
    (f"count>{2**70}", ""),
    ({"study": not_in(["A", "C"])}, "B0 B1"),
    ({"count": gt(np.int64(1))}, "A1 A2 A3"),
    ({"age": ge(1e300)}, "A4 B1"),
    ({"age": ge(1e301)}, "A4"),
    ({"age": float("inf")}, "A4"),
    ({"age": float("nan")}, ""),
    ({"age": is_missing()}, "A3"),
    ({"count": 1}, "A0"),
    ({"count": 1.0}, "A0"),
    ({"count": 1.5}, ""),
    ({"count": not_in(1.5)}, "A0 A1 A2 A3 A4 B0 B1"),
    ({"count": [1.5, 2]}, "A1"),
    ({"count": BIG + 1}, "A3"),
    (f"count={BIG}", "A2"),
    (f"count={BIG + 1},1", "A0 A3"),
    ({"count": 10**400}, ""),
    ({"count": float("inf")}, ""),
    ({"count": gt(BIG)}, "A3"),
    ({"count": lt(1.5)}, "A0"),
    ({"count": le(-(10**30))}, ""),
    ({"count": is_missing()}, "A4 B0 B1"),
    ({"flag": True}, "A0 A2"),
    ("flag=no", "A1 A4"),
    ({"flag": not_in("true")}, "A1 A3 A4 B0 B1"),
    ({"flag": [True, False]}, "A0 A1 A2 A4"),
    ({"flag": is_missing()}, "A3 B0 B1"),
    ({"age": gt(0), "flag": True}, "A0"),
    (["age>0", "age<20"], "A0 B0"),
    (["age>0", Condition("study", "in", ("B",))], "B0 B1"),
]


@pytest.mark.parametrize(("where", "wanted"), WHERE, ids=[str(where) for where, _ in WHERE])
def test_these_cells_pass(atlas: Atlas, where: Any, wanted: str) -> None:
    assert passing(atlas, where) == wanted


@pytest.mark.parametrize(
    ("where", "error", "words"),
    [
        ({"organ": "lung"}, UnknownField, ["'organ'", "tissue", "age"]),
        ({"tissue": lt(3)}, FieldNotComparable, ["'tissue'", "category", "<"]),
        ({"flag": ge(1)}, FieldNotComparable, ["'flag'", "bool"]),
        ({"study": ge(1)}, FieldNotComparable, ["'study'"]),
        ({"flag": "maybe"}, InvalidArgument, ["'flag'", "maybe"]),
        ({"age": "old"}, InvalidArgument, ["'age'", "old"]),
        ({"count": "many"}, InvalidArgument, ["'count'", "many"]),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused(
    atlas: Atlas, where: Any, error: type[RequestError], words: list[str]
) -> None:
    for ask in (atlas.search, atlas.scores):
        with pytest.raises(error) as caught:
            ask(["G"], where=where)
        assert all(word in caught.value.message for word in words)


def test_it_is_refused_even_if_another_condition_lets_no_cell_pass(atlas: Atlas) -> None:
    with pytest.raises(FieldNotComparable):
        atlas.search(["G"], where=[Condition("study", "in", ("none such",)), Condition("tissue", "<", (3,))])


def test_grouping_by_an_unknown_field_is_refused(atlas: Atlas) -> None:
    with pytest.raises(UnknownField):
        atlas.search(["G"], group_by="organ")
