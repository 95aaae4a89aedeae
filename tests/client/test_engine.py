"""Answers that are not exact: read from the wire, shown in every form; those of old servers are exact."""

import json
from dataclasses import replace

import pytest

from insignia_client import SearchRequest, _convert
from insignia_client._similar import similar, similar_request
from insignia_client.cli import search
from insignia_model import Column, Condition, GeneReport, SearchResult, Signature, SimilarRequest, Table
from insignia_model.errors import InvalidArgument
from insignia_proto.v1 import insignia_pb2 as pb

CELLS = Table(
    {
        "study": Column.text(["a", "a"]),
        "cell_id": Column.text(["c1", "c2"]),
        "score": Column.numbers([2.5, 1.0]),
    }
)
EXACT = SearchResult(
    "sparse", "sum", "percentile:95", 40, 2, 1.5, 3.0, GeneReport({"CD14": "CD14"}), ("study",), CELLS,
    Table({"study": Column.text(["a"]), "n_cells": Column.integers([40]), "n_hits": Column.integers([2]),
           "n_genes_measured": Column.integers([1])}),
    Table({}), "CD14",
)  # fmt: skip
APPROXIMATE = replace(
    EXACT, engine="faiss", exact=False, n_candidates=1300, expected_recall=0.985, n_hits=None, cutoff=None,
    group_table=Table({}),
)  # fmt: skip


def test_an_answer_without_the_new_fields_is_exact():
    old = pb.SearchResponse(engine="sparse", n_cells=7, hits="percentile:95", aggregate=pb.AGGREGATE_SUM)
    result = _convert.search_result(old, SearchRequest.of(["CD14"]))
    assert (result.exact, result.n_candidates, result.expected_recall, result.n_hits) == (True, None, 1.0, 0)


def test_an_answer_that_is_not_exact_says_so():
    message = pb.SearchResponse(engine="faiss", n_cells=7, exact=False, n_candidates=30, expected_recall=0.9)
    result = _convert.search_result(message, SearchRequest.of(["CD14"]))
    assert (result.exact, result.n_candidates, result.expected_recall) == (False, 30, 0.9)
    assert (result.n_hits, result.cutoff) == (None, None)
    message.n_hits = 0
    assert _convert.search_result(message, SearchRequest.of(["CD14"])).n_hits == 0


def test_a_request_travels_whole():
    request = SimilarRequest.of(
        [("a", "b:c"), "d:e"], k=3, where="tissue=blood", group_by=(), hits="top:4", quantiles=True,
        min_cells=2, exclude_study=True, strict=True, engine="faiss", recall_target=0.5, groups=False,
    )  # fmt: skip
    message = similar_request(request)
    assert [(c.study, c.cell_id) for c in message.cells.cells] == [("a", "b:c"), ("d", "e")]
    assert (message.k, message.hits.top, message.min_cells, message.engine) == (3, 4, 2, pb.ENGINE_FAISS)
    assert (message.quantiles, message.exclude_study, message.strict_genes) == (True, True, True)
    assert (message.recall_target, message.HasField("groups"), message.groups) == (0.5, True, False)
    assert message.where[0].field == "tissue"
    everything = similar_request(SimilarRequest.of(centroid={}))
    assert everything.WhichOneof("query") == "centroid"
    assert not everything.HasField("groups")
    profile = similar_request(SimilarRequest.of(profile={"CD14": 2.0}))
    assert (profile.profile.name, list(profile.profile.weights)) == ("profile", [2.0])
    answer = pb.SimilarResponse(result=pb.SearchResponse(engine="sparse", n_hits=3))
    assert similar(request).decode(answer).n_hits == 3


def test_what_is_not_exact_is_told_in_every_form():
    assert "engine faiss (not exact: 1,300 candidates, expected recall 0.985)" in repr(APPROXIMATE)
    assert "best 2 of 40 cells" in repr(APPROXIMATE)
    assert "engine sparse, 3.0 ms" in repr(EXACT)
    text = search._text(APPROXIMATE, "table", None)
    assert text.startswith("CD14: best 2 of 40 cells\n")
    assert "expected recall 0.985" in text
    assert "c2" in text
    for which in ("groups", "samples"):
        assert "--groups asks for them" in search._text(APPROXIMATE, "table", which)
    assert search._text(APPROXIMATE, "csv", None) == "study,cell_id,score\na,c1,2.5\na,c2,1.0\n"
    assert search._text(EXACT, "csv", None).startswith("study,n_cells,n_hits")
    found = json.loads(search._text(APPROXIMATE, "json", None))
    assert (found["exact"], found["n_candidates"], found["expected_recall"]) == (False, 1300, 0.985)
    assert (found["n_hits"], found["cutoff"], found["groups"]) == (None, None, [])
    assert APPROXIMATE._repr_html_().startswith("<p>CD14: best 2 of 40 cells")
    with pytest.raises(InvalidArgument, match="counted no hits"):
        APPROXIMATE.plot()


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (SimilarRequest.of("a:b"), "cells like a:b"),
        (SimilarRequest.of(["a:b", "a:c", "a:d"]), "cells like a:b and 2 others"),
        (SimilarRequest.of(centroid={}), "cells like the centroid of all cells"),
        (SimilarRequest.of(centroid=["a=b", "c>1"]), "cells like the centroid of a=b and c>1"),
        (SimilarRequest.of(profile=["CD14"]), "profile"),
        (SimilarRequest.of(profile=Signature({"CD14": 1.0}, "mine")), "mine"),
    ],
)
def test_a_request_has_a_name_that_can_be_read(request_, name):
    assert request_.name == name


@pytest.mark.parametrize("cells", [("a", "b"), "a:b", [("a", "b")], ["a:b", "a:b"], ("a:b", "a:b")])
def test_one_cell_is_written_in_any_way(cells):
    assert SimilarRequest.of(cells).cells == (("a", "b"),)


def test_two_cells_in_a_tuple_are_two_cells():
    assert SimilarRequest.of(("a:b", "c:d")).cells == (("a", "b"), ("c", "d"))
    assert SimilarRequest.of(centroid=[Condition("a", "missing")]).centroid == (Condition("a", "missing"),)
