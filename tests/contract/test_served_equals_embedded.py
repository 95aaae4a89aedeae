import json

import anndata
import numpy as np
import pytest

from insignia_client import AsyncClient, ge, is_missing, not_in, read_gmt
from insignia_index.search.explain import EXPLANATION_COLUMNS
from insignia_model import Table
from insignia_model.errors import (
    CellNotFound,
    FieldNotComparable,
    InexactGenes,
    InvalidArgument,
    InvalidSignature,
    NoGeneResolved,
    StudyNotFound,
    UnknownField,
)
from insignia_model.request import GROUP_COLUMNS, TEST_COLUMNS

from .serving import DATA, insignia

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
    "tests": {"group_by": ("cell_type",), "compare": True, "where": {"study": "baron2016"}, "min_cells": 5},
    "contrasts": {"contrasts": ["condition=stimulated:control", "cell_type=beta:alpha"], "min_samples": 2},
    "tests of nothing": {"where": {"tissue": "none"}, "group_by": ("donor",), "compare": True},
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
    for name in ("cell_table", "group_table", "sample_table", "test_table"):
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
    names = [
        "CD14",
        "no gene",
        "RIPOR2",
        "FAM65B",
        "tp53",
        "P53",
        "ENSG00000170458.1",
        "QARS1",
        "INS",
        "IFTI1",
    ]
    report = client.resolve_genes(names)
    assert atlas.genes(names) == report
    assert report.inexact["FAM65B"] == "previous"
    assert report.ambiguous
    assert report.suggestions["IFTI1"][0] == "IFIT1"
    assert report.duplicates["RIPOR2"] == ("RIPOR2", "FAM65B")
    assert report.weight_coverage < 1
    assert set(report.n_genes_measured) == {study.study for study in client.studies()}
    ids = [(row["study"], row["cell_id"]) for row in atlas.search(INTERFERON, k=5).cell_table.rows()]
    same(atlas.cells(ids), client.cells(ids))


@pytest.mark.parametrize(
    ("error", "ask"),
    [
        (NoGeneResolved, lambda a: a.search(["no gene"])),
        (InexactGenes, lambda a: a.search(["CD14", "FAM65B", "no gene"], strict=True)),
        (InexactGenes, lambda a: a.scores(["CD14", "QARS1"], strict=True)),
        (InexactGenes, lambda a: a.resolve_genes(["p53"], strict=True)),
        (InvalidSignature, lambda a: a.search({"RIPOR2": 1.0, "FAM65B": 2.0})),
        (UnknownField, lambda a: a.search(INTERFERON, group_by="no field")),
        (UnknownField, lambda a: a.search(INTERFERON, where={"no field": 1})),
        (FieldNotComparable, lambda a: a.search(INTERFERON, where={"tissue": ge(3)})),
        (InvalidArgument, lambda a: a.search(INTERFERON, hits="percentile:101")),
        (UnknownField, lambda a: a.search(INTERFERON, contrasts="no field=a:b")),
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
@pytest.mark.parametrize(
    "options",
    [
        ["--quantiles", "--null"],
        ["--compare", "--contrast", "cell_type=beta:alpha", "--contrast", "donor=1:2"],
    ],
    ids=["quantiles", "tests"],
)
def test_the_command_prints_the_same_byte_for_byte_but_for_the_time(atlas_path, address, form, options):
    question = [
        "--genes",
        "INS,IAPP,pdx1,DLK1,FAM65B,QARS1,IFTI1",
        "--group-by",
        "cell_type",
        *options,
        "--format",
        form,
    ]
    if form == "csv" and "--compare" in options:
        question += ["--table", "tests"]
    printed = []
    for backend in (["--atlas", str(atlas_path)], ["--server", address]):
        done = insignia("search", *backend, *question)
        assert done.returncode == 0, done.stderr
        printed.append(without_time(done.stdout, form))
    assert printed[0] == printed[1]


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_the_command_genes_prints_the_same(atlas_path, address, form):
    names = ["FAM65B", "RIPOR2", "p53", "QARS1", "INS", "IFTI1", "CD14"]
    printed = []
    for backend in (["--atlas", str(atlas_path)], ["--server", address]):
        command = ["genes", *backend, *names, "--format", form]
        printed.append(insignia(*command).stdout)
    assert printed[0] == printed[1]
    assert "previous" in printed[0]
    if form == "table":
        assert "QARS1" in printed[0]
        assert "may mean QARS\n" in printed[0]
        assert "did you mean IFIT1" in printed[0]
        assert "FAM65B, RIPOR2 mean one gene, RIPOR2, which counts once" in printed[0]
        refused = insignia(*command[:-2], "--strict")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "FAM65B (used as RIPOR2 (previous symbol))" in refused.stderr


def without_time(text: str, form: str) -> str:
    if form == "json":
        answer = json.loads(text)
        elapsed = answer["elapsed_ms"]
        assert elapsed > 0
        return text.replace(f'"elapsed_ms": {elapsed}', "")
    lines = text.splitlines()
    return "\n".join(line.split(", engine")[0] for line in lines)


def test_the_command_tells_why_there_is_no_test_and_what_the_others_found(atlas_path):
    question = ["search", "--atlas", str(atlas_path), "--signature", str(DATA / "signatures.gmt"),
                "--name", "BETA_CELL_MARKERS", "--group-by", "cell_type", "--compare",
                "--contrast", "condition=stimulated:control"]  # fmt: skip
    table, answer = (insignia(*question, *more).stdout for more in ((), ("--format", "json")))
    assert "no test of condition=stimulated:control: 2 samples: 1 with condition=stimulated, 1 with" in table
    (beta, _) = (line for line in table.splitlines() if line.startswith("beta ") and "[" in line)
    tests = [test for test in json.loads(answer)["tests"] if test["group"] == {"cell_type": "beta"}]
    assert [test["measure"] for test in tests] == ["hit_fraction", "mean"]
    assert f"{100 * tests[0]['effect']:.1f} [" in beta
    assert json.loads(answer)["tests"][-1]["contrast"] == "condition=stimulated:control"


def test_the_command_has_no_table_of_tests_that_nobody_asked_for(atlas_path):
    question = ["search", "--atlas", str(atlas_path), "--genes", "INS", "--table", "tests"]
    done = insignia(*question)
    assert done.returncode == 2
    assert "--compare" in done.stderr


def test_the_columns_that_no_group_field_may_be_named_as_are_those_of_answers(atlas):
    result = atlas.search(INTERFERON, group_by="cell_type", quantiles=True, null=True, compare=True)
    assert set(result.group_table.columns) == {"cell_type", *GROUP_COLUMNS}
    assert set(result.test_table.columns) == {"cell_type", *TEST_COLUMNS}
    explanation = atlas.explain({"CD14": 1, "LYZ": -1}, group_by="cell_type")
    more = {"cell_type", *GROUP_COLUMNS, *EXPLANATION_COLUMNS}
    assert set(explanation.group_table.columns) | set(explanation.gene_table.columns) <= more
    with pytest.raises(InvalidArgument, match="column 'gene' of its own"):
        atlas.explain(INTERFERON, group_by="gene")


def test_scores_of_no_cell_have_their_header(atlas_path, address):
    for backend in (["--atlas", str(atlas_path)], ["--server", address]):
        done = insignia("scores", *backend, "--genes", "CD14", "--where", "tissue=nowhere")
        assert (done.returncode, done.stdout) == (0, "study,row,cell_id,score\n")


def test_scores_go_back_into_anndata_by_the_names_of_the_cells(client, atlas):
    adata = anndata.read_h5ad(DATA / "pbmc3k.h5ad")
    shuffled = adata[::-3].copy()
    for source in (client, atlas):
        scores = source.scores(["CD14", "LYZ"], cell_ids=True).to_frame()
        shuffled.obs["ms1"] = scores[scores.study == "pbmc3k"].set_index("cell_id").score
        wanted = np.asarray(shuffled[:, ["CD14", "LYZ"]].X.mean(axis=1)).ravel()
        np.testing.assert_allclose(shuffled.obs["ms1"], wanted, rtol=1e-3)
