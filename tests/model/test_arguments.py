"""What a notebook passes: numbers of numpy, Series, lists in lists, missing values."""

import typing
from typing import Any

import numpy as np
import pandas as pd
import pytest

import insignia_client
import insignia_index
from insignia_client import AsyncClient, Client, SearchRequest, Signature, gt, not_in
from insignia_index import Atlas
from insignia_model import Contrast
from insignia_model.condition import Condition, conditions, parse_condition
from insignia_model.errors import InvalidArgument, InvalidSignature
from insignia_model.screen import signatures_of
from insignia_model.similar import SimilarRequest


@pytest.mark.parametrize("gene", [None, np.nan, pd.NA, 1.5, True, ("A", 1), b"A"])
def test_what_is_no_gene_is_not_read_as_the_gene_of_that_name(gene: Any) -> None:
    with pytest.raises(InvalidSignature, match="is no name of a gene; leave it out"):
        Signature.of(["ISG15", gene])
    with pytest.raises(InvalidSignature, match="is no name of a gene"):
        Signature.of({"ISG15": 1.0, gene: 2.0})


def test_genes_of_a_series_and_weights_of_one() -> None:
    assert Signature.of(pd.Series(["A", "B"])).weights == {"A": 1.0, "B": 1.0}
    assert Signature.of(pd.Series([2, -1], index=["A", "B"])).weights == {"A": 2.0, "B": -1.0}
    assert Signature.of([7157, "B"]).weights == {"7157": 1.0, "B": 1.0}
    with pytest.raises(InvalidSignature, match="pass one of its columns"):
        Signature.of(pd.DataFrame({"gene": ["A"]}))  # type: ignore[arg-type]
    with pytest.raises(InvalidSignature, match=r"Signature\.of"):
        Signature(pd.Series([1.0], index=["A"]))  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [None, pd.NA, "high", [1]])
def test_a_weight_that_is_no_number(weight: Any) -> None:
    with pytest.raises(InvalidSignature, match="which is no number"):
        Signature.of({"A": weight})


def test_a_series_of_gene_lists_keeps_its_names() -> None:
    sets = pd.Series([["A"], ["B", "C"]], index=["one", "two"])
    assert [(s.name, len(s)) for s in signatures_of(sets) if isinstance(s, Signature)] == [
        ("one", 1),
        ("two", 2),
    ]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "listed",
    [["a", "b"], ("a", "b"), np.array(["a", "b"]), pd.Series(["a", "b"]), pd.Index(["a", "b"])],
    ids=type,
)
def test_lists_are_as_good_as_their_values(listed: Any) -> None:
    wanted = (Condition("study", "not in", ("a", "b")),)
    assert conditions({"study": not_in(listed)}) == conditions({"study": not_in(*listed)}) == wanted
    assert conditions({"study": listed}) == (Condition("study", "in", ("a", "b")),)


def test_numbers_of_numpy_are_those_of_python() -> None:
    for number in (np.int64(2), np.uint8(2), np.float32(2), np.float64(2)):
        (condition,) = conditions({"n": gt(number)})
        assert type(condition.values[0]) in (int, float)
        assert condition == Condition("n", ">", (2,))
    assert Condition("n", "in", (np.int64(2), np.True_)).values == (2, True)
    assert conditions(wanted := Condition("n", "in", (1,))) == (wanted,)


def test_whole_numbers_are_exact() -> None:
    assert parse_condition("n>9007199254740993").values == (9007199254740993,)
    assert parse_condition("n>=1e3").values == (1000.0,)


def test_what_is_in_quotes_stays_as_it_is() -> None:
    assert parse_condition('t= a , " b ","c, ""d""", e ').values == ("a", " b ", 'c, "d"', "e")
    assert parse_condition('t=""').values == ("",)


@pytest.mark.parametrize(("kind", "query"), [(SearchRequest, "signature"), (SimilarRequest, "profile")])
def test_counts_are_whole_numbers(kind: Any, query: str) -> None:
    asked = {query: ["A"]}
    request = kind.of(**asked, k=np.uint8(5), min_cells=np.int64(7))
    assert (request.k, type(request.k), request.min_cells) == (5, int, 7)
    for wrong in (5.0, "5", None, np.float64(5)):
        with pytest.raises(InvalidArgument, match=r"k: .* is no whole number"):
            kind.of(**asked, k=wrong)
    with pytest.raises(InvalidArgument, match="min_cells"):
        kind.of(**asked, min_cells=5.5)


def test_contrasts_of_numbers_and_truth_values() -> None:
    assert Contrast("sick", True, False) == Contrast("sick", "True", "False")  # type: ignore[arg-type]
    assert Contrast("n", np.int64(1), 2) == Contrast("n", "1", "2")  # type: ignore[arg-type]
    for wrong in (None, np.nan, pd.NA):
        with pytest.raises(InvalidArgument, match="which is no text and no number"):
            Contrast("n", wrong, "2")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="neither a Contrast nor"):
        SearchRequest.of(["A"], contrasts=[("n", "1", "2")])  # type: ignore[list-item]


def test_no_field_is_told_how_to_be_written() -> None:
    with pytest.raises(InvalidArgument, match=r"\(\) makes one group of all cells"):
        SearchRequest.of(["A"], group_by=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("of", [Atlas, Client, AsyncClient])
@pytest.mark.parametrize("name", ["search", "similar", "explain", "scores", "screen"])
def test_types_can_be_asked_for(of: type, name: str) -> None:
    assert "return" in typing.get_type_hints(getattr(of, name))


@pytest.mark.parametrize("module", [insignia_client, insignia_index])
def test_names_can_be_completed(module: Any) -> None:
    assert {*module.__all__} <= {*dir(module)}
