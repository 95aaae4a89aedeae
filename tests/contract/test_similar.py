"""Similar cells: served equals embedded, the command both ways, and what is known of these cells."""

import numpy as np
import pytest

from insignia_client import AsyncClient, Client, SimilarRequest, not_in
from insignia_index import Atlas
from insignia_model.errors import (
    CellNotFound,
    EmptyProfile,
    EngineUnavailable,
    InexactGenes,
    InvalidArgument,
    NoGeneResolved,
    StudyNotFound,
    UnknownField,
)

from .serving import insignia, served
from .test_same_options import options
from .test_served_equals_embedded import same, without_time

CELL = "pbmc3k:TGGTCAGACCGTTC-1"


@pytest.fixture(scope="module")
def cells(atlas):
    """Some cells of the atlas: monocytes of two studies."""
    found = atlas.search(["CD14", "LYZ", "S100A8"], k=40, where={"tissue": "blood"}).cell_table
    return [(row["study"], row["cell_id"]) for row in found.rows()]


QUESTIONS = {
    "one cell": {},
    "no group": {"group_by": (), "k": 3},
    "another study": {"exclude_study": True, "group_by": "cell_type", "quantiles": True},
    "filter": {"where": {"tissue": "blood", "cell_type": not_in("B", "T")}, "hits": "top:9"},
    "exactly": {"engine": "sparse", "recall_target": 1.0, "groups": True, "min_cells": 2},
    "no cell": {"where": {"tissue": "no such tissue"}},
    "centroid": {"centroid": {"cell_type": "beta"}, "k": 7},
    "centroid of all": {"centroid": {}, "k": 0},
    "centroid of another study": {"centroid": ["cell_type=beta", "study=baron2016"], "exclude_study": True},
    "profile": {"profile": {"CD14": 2.0, "LYZ": 30.5, "FAM65B": -1.0, "no gene": 3.0}, "hits": "zscore:2"},
}


def equal(embedded, remote):
    plain = ("engine", "aggregate", "hits", "n_cells", "n_hits", "cutoff", "genes", "group_by", "signature",
             "min_cells", "unsigned_atlas", "negative_weights", "exact", "n_candidates",
             "expected_recall")  # fmt: skip
    for name in plain:
        assert getattr(embedded, name) == getattr(remote, name), name
    for name in ("cell_table", "group_table", "sample_table", "test_table"):
        same(getattr(embedded, name), getattr(remote, name))


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_an_answer_is_the_same(atlas, client, cells, question):
    queries = [()] if {"centroid", "profile"} & set(question) else [(cells[0],), (cells,)]
    for query in queries:
        equal(atlas.similar(*query, **question), client.similar(*query, **question))


async def test_the_asyncio_client_gives_the_same_answer(atlas, address, cells):
    async with AsyncClient(address) as client:
        equal(atlas.similar(cells[1], group_by="sample"), await client.similar(cells[1], group_by="sample"))


@pytest.mark.parametrize("owner", [Client, AsyncClient, Atlas])
def test_all_take_the_options_of_a_request(owner):
    assert options(owner.similar) == options(SimilarRequest.of)


@pytest.mark.parametrize(
    ("error", "ask"),
    [
        (StudyNotFound, lambda a: a.similar("no study:x")),
        (CellNotFound, lambda a: a.similar("pbmc3k:x")),
        (EmptyProfile, lambda a: a.similar(centroid={"tissue": "no such tissue"})),
        (NoGeneResolved, lambda a: a.similar(profile=["no gene"])),
        (InexactGenes, lambda a: a.similar(profile=["FAM65B"], strict=True)),
        (UnknownField, lambda a: a.similar(centroid={"no field": 1})),
        (UnknownField, lambda a: a.similar(profile=["CD14"], group_by="no field")),
        (InvalidArgument, lambda a: a.similar()),
        (InvalidArgument, lambda a: a.similar(CELL, centroid={"tissue": "blood"})),
        (InvalidArgument, lambda a: a.similar(profile=["CD14"], exclude_study=True)),
        (EngineUnavailable, lambda a: a.similar(profile=["CD14"], engine="faiss")),
        (EngineUnavailable, lambda a: a.search(["CD14"], engine="faiss")),
        (InvalidArgument, lambda a: a.search(["CD14"], recall_target=1.5)),
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


def command(backend, *question):
    return insignia("similar", *backend, *question)


@pytest.mark.parametrize("form", ["table", "json", "csv"])
@pytest.mark.parametrize("query", ["cell", "cells", "centroid", "where", "profile"])
def test_the_command_prints_the_same_both_ways(atlas_path, address, cells, tmp_path, form, query):
    (tmp_path / "profile.csv").write_text("gene,weight\nCD14,2\nLYZ,30.5\n")
    names = [f"--cell={study}:{cell}" for study, cell in cells[:3]]
    question = {
        "cell": [names[0], "--exclude-study", "--where", "tissue=blood"],
        "cells": [*names, "-k", "3", "--engine", "sparse", "--recall-target", "0.9", "--groups"],
        "centroid": ["--centroid", "cell_type=beta", "--where", "tissue=pancreas"],
        "where": ["--where", "cell_type=beta", "--quantiles"],
        "profile": ["--profile", str(tmp_path / "profile.csv"), "--hits", "top:3"],
    }[query]
    printed = []
    for backend in (["--atlas", str(atlas_path)], ["--server", address]):
        done = command(backend, *question, "--group-by", "cell_type", "--format", form)
        assert done.returncode == 0, done.stderr
        printed.append(without_time(done.stdout, form))
    assert printed[0] == printed[1]
    if form == "table" and query in ("centroid", "where"):
        assert printed[0].startswith("cells like the centroid of cell_type=beta: ")
        assert printed[0].splitlines()[4].startswith("beta ")


def test_where_alone_chooses_the_cells_of_the_centroid_and_filters_with_another_query(atlas_path, atlas):
    source = ["--atlas", str(atlas_path)]
    alone = command(source, "--where", "cell_type=beta", "--format", "csv").stdout
    assert alone == command(source, "--centroid", "cell_type=beta", "--format", "csv").stdout
    filtered = command(source, "--centroid", "cell_type=beta", "--where", "study=pbmc3k", "--format", "csv")
    n_cells = {study.study: study.n_cells for study in atlas.studies()}
    assert [line.split(",")[1] for line in filtered.stdout.splitlines()[1:]] == [str(n_cells["pbmc3k"])]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ([], "give one of --cell, --centroid and --profile, or --where alone"),
        (["--cell", "a:b", "--centroid", "tissue=blood"], "give one of"),
        (["--cell", "pbmc3k:x"], "study 'pbmc3k' has no cell 'x'"),
        (["--cell", "nocolon"], "STUDY:CELL_ID"),
        (["--where", "tissue=blood", "--engine", "faiss"], "engine faiss: the atlas has no FAISS indexes"),
        (["--where", "tissue=nowhere"], "there are no such cells"),
        (["--where", "tissue=blood", "--format", "json", "--table", "cells"], "--table is for"),
    ],
)
def test_what_the_command_cannot_do_is_said_in_a_line(atlas_path, address, question, said):
    for backend in (["--atlas", str(atlas_path)], ["--server", address]):
        done = command(backend, *question)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr


def test_a_search_takes_the_engine_on_the_command_line(atlas_path, address):
    for backend in (["--atlas", str(atlas_path)], ["--server", address]):
        question = ["search", *backend, "--genes", "CD14", "--engine"]
        assert "engine sparse" in insignia(*question, "sparse").stdout
        refused = insignia(*question, "faiss")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "use engine auto" in refused.stderr


def test_a_server_refuses_more_cells_and_genes_than_its_limits(atlas_path, cells):
    with served(atlas_path, "--max-k", "3", "--max-genes", "2") as address, Client(address) as client:
        assert len(client.similar(cells[:3], k=3).cell_table) == 3
        for question in ({"cells": cells[:4], "k": 3}, {"cells": cells[:1], "k": 4}):
            with pytest.raises(Exception, match="over this server's limit of 3"):
                client.similar(**question)
        with pytest.raises(Exception, match="over this server's limit of 2"):
            client.similar(profile=["CD14", "LYZ", "INS"], k=1)


def test_the_picture_of_similar_cells_is_drawn(atlas_path, tmp_path):
    done = command(
        ["--atlas", str(atlas_path)], "--where", "cell_type=beta", "--plot", str(tmp_path / "a.png")
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_cells_like_a_beta_cell_are_beta_cells_and_a_profile_asks_the_same(atlas, client):
    beta = next(atlas.search(["INS", "IAPP"], k=1, where={"cell_type": "beta"}).cell_table.rows())
    cell = (beta["study"], beta["cell_id"])
    result = client.similar([cell], k=50)
    assert np.mean([row["cell_type"] == "beta" for row in result.cell_table.rows()]) > 0.9
    assert cell not in {(row["study"], row["cell_id"]) for row in result.cell_table.rows()}
    genes, rows = atlas.profiles(cell)
    profile = {gene: float(value) for gene, value in zip(genes, rows[0], strict=True) if value}
    by_profile = client.similar(profile=profile, k=51)
    assert next(by_profile.cell_table.rows())["cell_id"] == cell[1]
    same_cells = [row["cell_id"] for row in by_profile.cell_table.rows()][1:]
    assert same_cells == [row["cell_id"] for row in result.cell_table.rows()]
