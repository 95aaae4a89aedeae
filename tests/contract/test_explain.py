"""Explanations: served equals embedded, they add up on real cells, and say what is known of these cells."""

import inspect

import anndata
import numpy as np
import pytest

from insignia_client import AsyncClient, Client, read_gmt
from insignia_index import Atlas
from insignia_model import Explanation
from insignia_model.errors import InvalidArgument, NoGeneResolved, UnknownField

from .serving import DATA, insignia, served
from .test_same_options import options
from .test_served_equals_embedded import same, without_time

SETS = read_gmt(DATA / "signatures.gmt")
INTERFERON = SETS["HALLMARK_INTERFERON_ALPHA_RESPONSE"]
SIGNED = {"CD14": 2.0, "LYZ": 1.0, "CD3E": -1.0, "no gene": 1.0}
TABLES = ("cell_table", "cell_gene_table", "group_table", "gene_table", "gene_summary_table")

QUESTIONS = {
    "defaults": {},
    "groups of two fields": {"group_by": ("condition", "cell_type"), "k": 3},
    "one group of all": {"group_by": (), "min_cells": 1},
    "sum of a filter": {"aggregate": "sum", "where": {"tissue": "blood"}, "hits": "zscore:2"},
    "no best cells": {"k": 0, "group_by": "sample", "min_coverage": 0.5},
    "no cell": {"where": {"tissue": "no such tissue"}},
}


def equal(embedded: Explanation, remote: Explanation) -> None:
    plain = ("engine", "aggregate", "hits", "n_cells", "n_hits", "cutoff", "genes", "group_by", "sentences")
    for name in (*plain, "signature", "min_cells"):
        assert getattr(embedded, name) == getattr(remote, name), name
    for name in TABLES:
        same(getattr(embedded, name), getattr(remote, name))


@pytest.mark.parametrize("signature", [INTERFERON, SIGNED], ids=["set", "signed"])
@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_an_explanation_is_the_same(atlas, client, signature, question):
    equal(atlas.explain(signature, **question), client.explain(signature, **question))


async def test_the_asyncio_client_gives_the_same_explanation(atlas, address):
    async with AsyncClient(address) as client:
        remote = await client.explain(SIGNED, group_by="sample")
    equal(atlas.explain(SIGNED, group_by="sample"), remote)


@pytest.mark.parametrize("owner", [Client, AsyncClient])
def test_all_take_the_same_options(owner):
    assert options(owner.explain) == options(Atlas.explain)
    of_search = options(Atlas.search)
    mine = options(Atlas.explain)
    assert {name: of_search[name] for name in mine} | {"k": 20} == mine
    assert "timeout_s" in inspect.signature(owner.explain).parameters


@pytest.mark.parametrize(
    ("error", "ask"),
    [
        (NoGeneResolved, lambda a: a.explain(["no gene"])),
        (UnknownField, lambda a: a.explain(INTERFERON, group_by="no field")),
        (InvalidArgument, lambda a: a.explain(INTERFERON, hits="percentile:101")),
        (InvalidArgument, lambda a: a.explain(INTERFERON, k=-1)),
    ],
)
def test_errors_are_the_same(atlas, client, error, ask):
    texts = []
    for backend in (atlas, client):
        with pytest.raises(error) as raised:
            ask(backend)
        texts.append(str(raised.value))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("form", [["table"], ["json"], ["csv"], ["csv", "--table", "cell-genes"]])
def test_the_command_prints_the_same(atlas_path, address, form):
    question = ["--genes", "INS,IAPP,PDX1,CD3E:-1", "--group-by", "cell_type", "--format", *form]
    printed = []
    for backend in (["--atlas", str(atlas_path)], ["--server", address]):
        done = insignia("explain", *backend, *question)
        assert done.returncode == 0, done.stderr
        printed.append(without_time(done.stdout, form[0]))
    assert printed[0] == printed[1]
    assert "IAPP" in printed[0]


def test_a_server_refuses_more_rows_than_its_limit(atlas_path):
    command = ["explain", "--genes", "CD14,LYZ", "-k", "6", "--group-by", "study"]
    with served(atlas_path, "--max-contributions", "11") as address:
        done = insignia(*command, "--server", address)
        assert done.returncode == 2
        assert "k times genes: 12 is over this server's limit of 11" in done.stderr
        with Client(address) as client:
            assert len(client.explain(["CD14", "LYZ"], k=5).cell_gene_table) == 10


@pytest.mark.parametrize("signature", [INTERFERON, SETS["MS1"], SIGNED], ids=["interferon", "MS1", "signed"])
def test_contributions_of_real_cells_equal_those_of_the_matrix_and_add_up(atlas, signature):
    explanation = atlas.explain(signature, k=200, group_by="sample")
    weights = signature if isinstance(signature, dict) else signature.weights
    studies = [anndata.read_h5ad(file) for file in sorted(DATA.glob("*.h5ad"))]
    symbols = list(studies[0].var_names)
    resolved = explanation.genes.resolved
    used = {resolved[gene]: weight for gene, weight in weights.items() if gene in resolved}
    divisor = sum(map(abs, used.values()))
    columns = [symbols.index(gene) for gene in used]
    parts = np.concatenate([s.X[:, columns].toarray().astype(np.float64) for s in studies])
    parts *= np.array(list(used.values())) / divisor

    cells = explanation.cell_genes.groupby(["study", "cell_id"], observed=True)["contribution"].agg(
        ["sum", lambda c: c.abs().sum()]
    )
    for row in explanation.cell_table.rows():
        total, size = cells.loc[(row["study"], row["cell_id"])]
        assert abs(total - row["score"]) <= 1e-5 * size
    samples = np.concatenate([s.obs["sample"].astype(str).to_numpy() for s in studies])
    found = explanation.group_genes.set_index(["sample", "gene"])["contribution"]
    for sample in set(samples):
        wanted = parts[samples == sample].mean(axis=0)
        mine = found.loc[sample].loc[list(used)].to_numpy()
        assert (np.abs(mine - wanted) <= 1e-3 * np.abs(wanted) + 1e-9).all(), sample
    searched = atlas.search(signature, group_by="sample").groups.set_index("sample")["mean"]
    for row in explanation.group_table.rows():
        size = found.loc[row["sample"]].abs().sum()
        assert abs(row["mean"] - searched[row["sample"]]) <= 1e-5 * size


def test_interferon_stimulated_genes_carry_the_stimulated_sample(client):
    explanation = client.explain(INTERFERON, group_by="sample")
    first = explanation.groups.iloc[0]
    assert (first["sample"], first["rank"]) == ("kang_stimulated", 1)
    genes = explanation.group_genes[explanation.group_genes["sample"] == "kang_stimulated"]
    apart = set(genes.nlargest(10, "above_rest")["gene"])
    assert {"ISG15", "IFIT3", "MX1", "RSAD2", "IFIT2"} <= apart
    assert "B2M" not in apart
    # a whole programme, not one gene: nothing needs saying
    assert first["n_effective_genes"] > 40
    assert explanation.sentences == ()


def test_glucagon_alone_is_said_to_carry_the_alpha_cells(client):
    explanation = client.explain(["IAPP", "PDX1", "GCG"], where={"tissue": "pancreas"}, group_by="cell_type")
    assert explanation.sentences[0] == (
        "GCG alone makes 97 % of the mean score of alpha, the first of 10 groups; "
        "without it the first group would be beta."
    )
