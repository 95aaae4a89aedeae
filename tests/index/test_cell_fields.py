"""The metadata of single cells over all studies, against each study's column."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insignia_index.catalog.columns import CellIds
from insignia_index.catalog.field_index import CellIdIndex, index_fields
from insignia_model.table import Column

Columns = list[Column | None]
N_CELLS = 30


def unaligned(values: np.ndarray) -> np.ndarray:
    """A copy at an odd address, where the catalog may well keep it."""
    raw = b"\0" * 7 + values.tobytes()
    return np.frombuffer(raw, values.dtype, offset=7)


def category(rng: np.random.Generator, dtype: str, n_names: int) -> Column:
    """Codes that reach the dictionary's end, some of them missing; names are shared between studies."""
    codes = rng.integers(-1, n_names, N_CELLS)
    codes[0] = n_names - 1
    shift = int(rng.integers(0, 5))
    names = [f"ä{i + shift}" for i in rng.permutation(n_names)]
    return Column("category", unaligned(codes.astype(dtype)), names)


def number(rng: np.random.Generator, dtype: str) -> Column:
    values = rng.choice([0.1, -1e30, np.nan, np.inf, 1 / 3], N_CELLS)
    return Column("number", unaligned(values.astype(dtype)))


def integer(rng: np.random.Generator, has_missing: bool) -> Column:
    values = rng.choice([0, -(2**63), 2**63 - 1, 7], N_CELLS)
    return Column("integer", unaligned(values), missing=rng.random(N_CELLS) < 0.4 if has_missing else None)


def truth(rng: np.random.Generator, has_missing: bool) -> Column:
    return Column(
        "bool", rng.random(N_CELLS) < 0.5, missing=rng.random(N_CELLS) < 0.4 if has_missing else None
    )


def columns(kind: str, rng: np.random.Generator) -> Columns:
    """One column a study; two studies lack the field."""
    widths = [("i1", 3), ("i1", 127), ("<i2", 200), ("<i2", 32_767), ("<i4", 33_000), ("i1", 1)]
    made: dict[str, Columns] = {
        "category": [category(rng, *width) for width in widths],
        "few categories": [category(rng, "i1", 2), category(rng, "<i4", 3)],
        "float32": [number(rng, "<f4"), number(rng, "<f4")],
        "float64": [number(rng, "<f8"), number(rng, "<f8")],
        "float32 and float64": [number(rng, "<f4"), number(rng, "<f8")],
        "integer": [integer(rng, False), integer(rng, False)],
        "integer with missing": [integer(rng, True), integer(rng, False), integer(rng, True)],
        "bool": [truth(rng, False)],
        "bool with missing": [truth(rng, True), truth(rng, True), truth(rng, False)],
    }
    return [None, *made[kind], None]


#: Kind of the column of all studies, and the dtypes that its values may have.
KINDS = {
    "category": ("category", {"int32"}),
    "few categories": ("category", {"int32"}),
    "float32": ("number", {"float32"}),
    "float64": ("number", {"float64"}),
    "float32 and float64": ("number", {"float32", "float64"}),
    "integer": ("integer", {"int64"}),
    "integer with missing": ("integer", {"int64"}),
    "bool": ("bool", {"bool"}),
    "bool with missing": ("bool", {"bool"}),
}


def one_by_one(made: Columns, study: np.ndarray, row: np.ndarray) -> list[Any]:
    cells = [(made[s], r) for s, r in zip(study.tolist(), row.tolist(), strict=True)]
    return [None if column is None else exact(column.take(np.array([r]))) for column, r in cells]


def exact(column: Column) -> Any:
    """The only value, in double precision: as text, 0.1 of float32 and of float64 would be the same."""
    if column.kind != "number":
        return column.to_list()[0]
    value = float(column.values[0])
    return None if value != value else value


def values(column: Column) -> list[Any]:
    return [exact(column.take(np.array([i]))) for i in range(len(column))]


def places(rng: np.random.Generator, n_studies: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells in no order, some of them twice, among them the first and the last row."""
    row = rng.choice([0, N_CELLS - 1, *range(N_CELLS)], n)
    return rng.integers(0, n_studies, n), row


def taken(made: Columns, study: np.ndarray, row: np.ndarray) -> Column:
    """The column of one of several fields that are asked for together; the others are checked."""
    rng = np.random.default_rng(len(made))
    few = [category(rng, "int8", 3) if s % 2 else None for s in range(len(made))]
    many = [category(rng, "int16", 900) for _ in made]
    found: dict[str, Column] = {}
    for index in index_fields({"few": few, "made": made, "many": many}):
        found |= index.take(study, row)
    if len(row) == 0 or row.max() < N_CELLS:
        for field, columns in (("few", few), ("many", many)):
            assert values(found[field]) == one_by_one(columns, study, row)
    return found["made"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), n=st.sampled_from([0, 1, 3, 50, 600]))
def test_cells_of_many_studies_have_the_values_of_their_study(kind: str, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    made = columns(kind, rng)
    study, row = places(rng, len(made), n)
    found = taken(made, study, row)
    assert len(found) == n
    if kind == "float32 and float64":  # together they are float64, and 0.1 of a float32 is still 0.1
        own = [
            None if made[s] is None else made[s].take(np.array([r])) for s, r in zip(study, row, strict=True)
        ]
        assert found.to_list() == [None if column is None else column.to_list()[0] for column in own]
    else:
        assert values(found) == one_by_one(made, study, row)
    if n >= 50:  # fewer may all be of studies that lack the field
        assert found.kind == KINDS[kind][0]
        assert found.values.dtype.name in KINDS[kind][1]


@pytest.mark.parametrize("n", [1, 5, 100])
def test_a_dictionary_holds_no_more_names_than_cells_and_none_twice(n: int) -> None:
    rng = np.random.default_rng(n)
    made = columns("category", rng)
    study, row = places(rng, len(made), n)
    found = taken(made, study, row)
    assert len(found.dictionary) == len({*found.dictionary}) <= n
    assert {*found.dictionary} == {*one_by_one(made, study, row)} - {None}


def test_a_name_has_one_code_whatever_its_code_in_its_study() -> None:
    made: Columns = [
        Column("category", np.array([1, 0], np.int8), ["x", "y"]),
        Column("category", np.array([0, 1], np.int32), ["y", "z"]),
    ]
    found = taken(made, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert found.to_list() == ["y", "x", "y", "z"]
    assert found.values[0] == found.values[2]


def test_a_float32_keeps_its_shortest_text_where_all_studies_have_float32() -> None:
    made: Columns = [Column("number", np.float32([0.1, np.nan])), None]
    assert taken(made, np.array([0, 0, 1]), np.array([0, 1, 1])).to_list() == [0.1, None, None]


def test_a_field_of_several_kinds_becomes_text() -> None:
    made: Columns = [
        Column("category", np.array([0, -1], np.int8), ["lung"]),
        Column("number", np.float32([0.1, np.nan])),
        Column("integer", np.array([7, 8]), missing=np.array([False, True])),
        Column("bool", np.array([True, False]), missing=np.array([False, True])),
        None,
    ]
    study, row = np.repeat(np.arange(5), 2), np.tile([0, 1], 5)
    found = taken(made, study, row)
    assert found.kind == "category"
    assert found.to_list() == ["lung", None, "0.1", None, "7", None, "True", None, None, None]


def test_integers_beside_numbers_become_numbers() -> None:
    made: Columns = [Column("integer", np.array([7, 8])), Column("number", np.array([0.5, np.nan]))]
    found = taken(made, np.array([0, 1, 1, 0]), np.array([1, 0, 1, 0]))
    assert (found.kind, found.to_list()) == ("number", [8.0, 0.5, None, 7.0])


@pytest.mark.parametrize("made", [[], [None, None]])
def test_a_field_that_every_study_lacks_is_missing(made: Columns) -> None:
    study = np.arange(len(made))
    assert taken(made, study, study).to_list() == [None] * len(made)


class Loading:
    """Cell ids of studies, and which of them were read."""

    def __init__(self, ids: list[list[str]]) -> None:
        self.ids = ids
        self.read: list[int] = []

    def __call__(self, study: int) -> CellIds:
        self.read.append(study)
        return CellIds(CellIds.encode(self.ids[study]), len(self.ids[study]))


IDS = [
    ["AAA-1", "", "é", "細胞-1", "\U0001f9ec"],
    ["only one"],
    [f"Ä{i}" * (i % 5 + 1) for i in range(N_CELLS)],
    ["x" * 70_000, "y"],
]


@given(places=st.lists(st.sampled_from([(s, r) for s, ids in enumerate(IDS) for r in range(len(ids))])))
def test_cell_ids_come_in_the_order_asked_from_the_studies_asked_for(places: list[tuple[int, int]]) -> None:
    load = Loading(IDS)
    index = CellIdIndex(len(IDS))
    study, row = np.array(places, np.int64).reshape(-1, 2).T.copy()
    for _ in range(2):
        assert index.take(study, row, load) == [IDS[s][r] for s, r in places]
    assert load.read == sorted({s for s, _ in places})  # each once


def test_a_study_is_read_when_a_cell_of_it_is_asked_for_and_only_once() -> None:
    load = Loading(IDS)
    index = CellIdIndex(len(IDS))
    assert load.read == []
    assert index.of(2, load)[1] == IDS[2][1]
    assert index.take(np.array([2, 0, 2]), np.array([0, 3, 1]), load) == [IDS[2][0], IDS[0][3], IDS[2][1]]
    assert index.take(np.array([3]), np.array([1]), load) == ["y"]
    assert index.of(3, load)[1] == "y"
    assert load.read == [2, 0, 3]


def test_cell_ids_that_cannot_be_read_are_an_error_every_time() -> None:
    good = Loading(IDS)

    def load(study: int) -> CellIds:
        if study == 1:
            raise ValueError("damaged")
        return good(study)

    index = CellIdIndex(len(IDS))
    for _ in range(2):
        with pytest.raises(ValueError, match="damaged"):
            index.take(np.array([0, 1]), np.array([0, 0]), load)
        assert index.take(np.array([0]), np.array([2]), load) == ["é"]
