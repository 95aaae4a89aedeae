"""Every column of obs becomes a field; what is missing stays missing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

from insignia_index import Atlas, InputFile, build_atlas
from insignia_index.build.obs import field_column
from insignia_index.catalog.columns import CellIds, decode_column, encode_column
from insignia_model import FieldInfo

from .made import build, study, write_h5ad

NA = pd.NA
#: Name: the column, the kind of its field, its values in an answer.
COLUMNS: dict[str, tuple[Any, str, list[Any]]] = {
    "text": (["x", "y", "x", ""], "category", ["x", "y", "x", ""]),
    "text_missing": (pd.Series(["x", None, np.nan, "y"], dtype=object), "category", ["x", None, None, "y"]),
    "string": (pd.array(["x", NA, "z", "x"], dtype="string"), "category", ["x", None, "z", "x"]),
    "category": (
        pd.Categorical(["b", "a", None, "b"], ["a", "b", "unused"]),
        "category",
        ["b", "a", None, "b"],
    ),
    "category_of_int": (pd.Categorical([10, 2, None, 10]), "category", ["10", "2", None, "10"]),
    "category_of_bool": (
        pd.Categorical([True, None, True, True]),
        "bool",
        [True, None, True, True],
    ),
    "int": (np.array([1, -2, 3, 2**40]), "integer", [1, -2, 3, 2**40]),
    "int8": (np.array([1, -2, 3, 127], np.int8), "integer", [1, -2, 3, 127]),
    "uint64": (np.array([1, 2, 3, 2**63 - 1], np.uint64), "integer", [1, 2, 3, 2**63 - 1]),
    "uint64_too_large": (
        np.array([1, 2, 3, 2**64 - 1], np.uint64),
        "category",
        ["1", "2", "3", str(2**64 - 1)],
    ),
    "nullable_int": (pd.array([1, NA, 0, -5], dtype="Int64"), "integer", [1, None, 0, -5]),
    "nullable_uint8": (pd.array([1, NA, 0, 255], dtype="UInt8"), "integer", [1, None, 0, 255]),
    "bool": (np.array([True, False, True, True]), "bool", [True, False, True, True]),
    "nullable_bool": (pd.array([True, NA, False, NA], dtype="boolean"), "bool", [True, None, False, None]),
    "float32": (np.array([0.1, np.nan, -np.inf, 2], np.float32), "number", [0.1, None, -np.inf, 2.0]),
    "float64": (np.array([0.1, np.nan, 1e300, 2]), "number", [0.1, None, 1e300, 2.0]),
    "nullable_float": (pd.array([0.5, NA, 1.5, 2], dtype="Float64"), "number", [0.5, None, 1.5, 2.0]),
    "time": (
        pd.to_datetime(["2024-02-29", None, "2024-02-29", "1999-12-31"]),
        "category",
        ["2024-02-29 00:00:00", None, "2024-02-29 00:00:00", "1999-12-31 00:00:00"],
    ),
    "all_missing": (pd.Categorical([None] * 4), "category", [None] * 4),
    "all_missing_number": (np.full(4, np.nan), "number", [None] * 4),
    "all_missing_int": (pd.array([NA] * 4, dtype="Int64"), "integer", [None] * 4),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_keeps_its_kind_and_values_through_storage(name: str) -> None:
    values, kind, wanted = COLUMNS[name]
    column = field_column(Path("a.h5ad"), name, pd.Series(values))
    record, raw, dictionary = encode_column(column)
    assert (record.kind, record.n_missing) == (kind, wanted.count(None))
    assert decode_column(record, raw, dictionary, 4).to_list() == wanted


#: anndata writes neither times nor categories of truth values nor nullable floats.
WRITTEN = [n for n in COLUMNS if n not in ("time", "category_of_bool", "nullable_float", "text_missing")]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    columns = {name: pd.Series(COLUMNS[name][0]).array for name in WRITTEN}
    made = study("A", 4, 3)
    obs = pd.DataFrame(columns, index=made.obs.index)
    with anndata.settings.override(allow_write_nullable_strings=True):
        path = build(tmp_path_factory.mktemp("fields"), [made.with_(obs=obs), study("B", 2, 3)])
    with Atlas.open(path) as opened:
        yield opened


@pytest.mark.parametrize("name", WRITTEN)
def test_a_cell_shows_every_field(atlas: Atlas, name: str) -> None:
    rows = [*atlas.cells([("A", f"c{i}") for i in range(4)] + [("B", "c1")]).rows()]
    assert [row[name] for row in rows] == [*COLUMNS[name][2], None]


@pytest.mark.parametrize("name", WRITTEN)
def test_cells_group_by_any_field(atlas: Atlas, name: str) -> None:
    values = [*COLUMNS[name][2], None, None]  # study B lacks the field
    groups = atlas.search(["G0"], group_by=name).group_table
    found = {row[name]: row["n_cells"] for row in groups.rows()}
    assert found == {value: values.count(value) for value in values}


def test_fields_are_described(atlas: Atlas) -> None:
    fields = {field.field: field for field in atlas.fields()}
    assert list(fields) == ["study", *WRITTEN, "sample"]
    assert fields["study"] == FieldInfo("study", "category", 2, 6, 2, (("A", 4), ("B", 2)))
    assert fields["text"] == FieldInfo("text", "category", 1, 4, 3, (("x", 2), ("", 1), ("y", 1)))
    assert fields["category"].values == (("b", 2), ("a", 1))
    assert fields["nullable_int"] == FieldInfo("nullable_int", "integer", 1, 3, minimum=-5, maximum=1)
    assert fields["all_missing_number"] == FieldInfo("all_missing_number", "number", 0, 0)
    assert [f.values for f in atlas.fields(max_values=1) if f.field == "text"] == [(("x", 2),)]


def opened(tmp_path: Path, obs: pd.DataFrame, **options: Any) -> Atlas:
    made = study("A", len(obs), 2)
    write_h5ad(tmp_path / "a.h5ad", made.with_(obs=obs.set_index(made.obs.index)))
    build_atlas(tmp_path / "atlas", [InputFile(tmp_path / "a.h5ad", **options)])
    return Atlas.open(tmp_path / "atlas")


DONORS = pd.DataFrame({"donor": [7, 7, 8], "well": ["x", None, "x"]})


@pytest.mark.parametrize(
    ("options", "samples"),
    [
        ({}, ["A", "A", "A"]),
        ({"sample_field": "donor"}, ["7", "7", "8"]),
        ({"sample_field": "well"}, ["x", None, "x"]),
        ({"sample_field": "donor", "drop_fields": ("donor",)}, ["7", "7", "8"]),
    ],
)
def test_the_sample_is_the_named_column_or_the_whole_study(
    tmp_path: Path, options: dict[str, Any], samples: list[str]
) -> None:
    with opened(tmp_path, DONORS, **options) as atlas:
        rows = [*atlas.cells([("A", f"c{i}") for i in range(3)]).rows()]
        assert [row["sample"] for row in rows] == samples
        assert ("donor" in rows[0]) == ("drop_fields" not in options)
        assert atlas.studies()[0].n_samples == len({*samples} - {None})


def test_dropped_fields_are_not_there(tmp_path: Path) -> None:
    with opened(tmp_path, DONORS.assign(score=1.0), drop_fields=("score", "well")) as atlas:
        assert [field.field for field in atlas.fields()] == ["study", "donor", "sample"]


@pytest.mark.parametrize("n_values", [1, 127, 128, 32_767, 32_768])
def test_codes_take_the_width_that_their_number_needs(n_values: int) -> None:
    names = [f"v{i}" for i in range(n_values)]
    column = field_column(Path("a.h5ad"), "f", pd.Series([None, *names], dtype=object))
    record, raw, dictionary = encode_column(column)
    assert record.dtype == {1: "i1", 127: "i1", 128: "<i2", 32_767: "<i2", 32_768: "<i4"}[n_values]
    assert decode_column(record, raw, dictionary, n_values + 1).to_list() == [None, *names]


def test_a_cell_is_found_by_its_whole_id_only() -> None:
    ids = ["AAA", "AA", "A", "é", "AAAA", "-AA", "AA-"]
    stored = CellIds(CellIds.encode(ids), len(ids))
    assert [stored.row_of(name) for name in ids] == [*range(7)]
    assert [stored[row] for row in range(7)] == ids
    assert [stored.row_of(name) for name in ("", "AAAAA", "B", "A\0AA")] == [None] * 4
