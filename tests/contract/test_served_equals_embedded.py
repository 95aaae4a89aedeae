import json
import subprocess

import numpy as np
import pytest

from insignia_client import AsyncClient, ge, is_missing, not_in, read_gmt
from insignia_model import Table
from insignia_model.errors import (
    CellNotFound,
    FieldNotComparable,
    InvalidArgument,
    NoGeneResolved,
    StudyNotFound,
    UnknownField,
)

from .serving import DATA, INSIGNIA

SETS = read_gmt(DATA / "signatures.gmt")
INTERFERON = SETS["HALLMARK_INTERFERON_ALPHA_RESPONSE"]

QUESTIONS = {
    "defaults": {},
    "samples of conditions": {"group_by": ("condition", "sample"), "k": 7},
    "one group of all": {"group_by": ()},
    "quantiles": {"group_by": ("cell_type",), "quantiles": True, "min_cells": 1},
    "null": {"group_by": ("sample", "cell_type"), "null": True, "where": {"tissue": "blood"}},
    "null of a sum": {"group_by": (), "null": True, "aggregate": "sum"},
    "sum, z-score": {"aggregate": "sum", "hits": "zscore:1.5"},
    "top": {"hits": "top:50", "k": 60},
    "value": {"hits": "value:0.5"},
    "more cells than there are": {"k": 10_000},
    "filter": {"where": {"tissue": "blood", "cell_type": not_in("B", "T")}, "group_by": ("cell_type",)},
    "missing donors": {"where": {"donor": is_missing()}},
    "no cell": {"where": {"tissue": "no such tissue"}},
}


def same(a: Table, b: Table) -> None:
    assert list(a.columns) == list(b.columns)
    for name, column in a.columns.items():
        other = b[name]
        assert column.kind == other.kind
        assert column.to_list() == other.to_list(), name


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_search_has_the_same_answer(atlas, client, question):
    embedded, remote = atlas.search(INTERFERON, **question), client.search(INTERFERON, **question)
    for name in ("engine", "aggregate", "hits", "n_cells", "n_hits", "cutoff", "genes", "group_by"):
        assert getattr(embedded, name) == getattr(remote, name), name
    for name in ("cell_table", "group_table", "sample_table"):
        same(getattr(embedded, name), getattr(remote, name))


@pytest.mark.parametrize(
    "signature", [["CD14", "LYZ"], {"CD14": 2.0, "CD3E": -1.0}, SETS["MS1"]], ids=["list", "weights", "set"]
)
def test_scores_are_the_same(atlas, client, signature):
    embedded = atlas.scores(signature, where={"tissue": "blood"}, cell_ids=True)
    remote = client.scores(signature, where={"tissue": "blood"}, cell_ids=True)
    assert np.array_equal(embedded.values, remote.values)
    assert embedded.values.dtype == remote.values.dtype
    assert embedded.to_frame().equals(remote.to_frame())
    assert embedded.genes == remote.genes


async def test_the_asyncio_client_gives_the_same_answer(atlas, address):
    async with AsyncClient(address) as client:
        remote = await client.search(INTERFERON, group_by="sample")
        values = np.concatenate([chunk.scores async for chunk in client.iter_scores(INTERFERON)])
    same(atlas.search(INTERFERON, group_by="sample").group_table, remote.group_table)
    assert np.array_equal(atlas.scores(INTERFERON).values, values)


def test_what_the_atlas_holds_is_the_same(atlas, client):
    assert atlas.info() == client.info()
    assert atlas.studies() == client.studies()
    assert atlas.fields() == client.fields()
    assert atlas.genes(["CD14", "no gene"]) == client.resolve_genes(["CD14", "no gene"])
    ids = [(row["study"], row["cell_id"]) for row in atlas.search(INTERFERON, k=5).cell_table.rows()]
    same(atlas.cells(ids), client.cells(ids))


@pytest.mark.parametrize(
    ("error", "ask"),
    [
        (NoGeneResolved, lambda a: a.search(["no gene"])),
        (UnknownField, lambda a: a.search(INTERFERON, group_by="no field")),
        (UnknownField, lambda a: a.search(INTERFERON, where={"no field": 1})),
        (FieldNotComparable, lambda a: a.search(INTERFERON, where={"tissue": ge(3)})),
        (InvalidArgument, lambda a: a.search(INTERFERON, hits="percentile:101")),
        (StudyNotFound, lambda a: a.cells([("no study", "x")])),
        (CellNotFound, lambda a: a.cells([("pbmc3k", "x")])),
        (NoGeneResolved, lambda a: a.scores(["no gene"])),
    ],
)
def test_errors_are_the_same(atlas, client, error, ask):
    caught = []
    for backend in (atlas, client):
        with pytest.raises(error) as raised:
            ask(backend)
        caught.append(raised.value)
    assert str(caught[0]) == str(caught[1])
    assert caught[0].data == caught[1].data


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_the_command_prints_the_same_byte_for_byte_but_for_the_time(atlas_path, address, form):
    question = [
        "--genes",
        "INS,IAPP,PDX1,DLK1",
        "--group-by",
        "cell_type",
        "--quantiles",
        "--null",
        "--format",
        form,
    ]
    printed = []
    for backend in (["--atlas", str(atlas_path)], ["--server", address]):
        done = subprocess.run(
            [INSIGNIA, "search", *backend, *question], capture_output=True, check=True, text=True
        )
        printed.append(without_time(done.stdout, form))
    assert printed[0] == printed[1]


def without_time(text: str, form: str) -> str:
    if form == "json":
        answer = json.loads(text)
        elapsed = answer["elapsed_ms"]
        assert elapsed > 0
        return text.replace(f'"elapsed_ms": {elapsed}', "")
    lines = text.splitlines()
    return "\n".join(line.split(", engine")[0] for line in lines)
