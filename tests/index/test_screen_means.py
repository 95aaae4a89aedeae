"""Screens: mean scores from the pseudobulk, the null and its FDR, leading genes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from insignia_index import Atlas, InputFile, build_atlas
from insignia_index.search import screen_genes
from insignia_model import Signature, Table, read_gmt
from insignia_model.errors import GroupsNotWhole, NoPseudobulk
from insignia_model.screen import with_fdr
from insignia_model.table import Column

DATA = Path(__file__).resolve().parents[1] / "data"
KEYS = ["signature", "study", "cell_type"]


@pytest.fixture(scope="module")
def library() -> dict[str, Signature]:
    sets = read_gmt(DATA / "signatures.gmt")
    return sets | {"SIGNED": Signature({"CD14": 1.0, "LYZ": 0.5, "CD3E": -2.0}, "SIGNED")}


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    """With sums by sample and cell type."""
    path = tmp_path_factory.mktemp("sums") / "atlas"
    build_atlas(path, [InputFile(file) for file in sorted(DATA.glob("*.h5ad"))])
    with Atlas.open(path, threads=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    """The same without sums."""
    path = tmp_path_factory.mktemp("plain") / "atlas"
    build_atlas(path, [InputFile(file) for file in sorted(DATA.glob("*.h5ad"))], pseudobulk=())
    with Atlas.open(path, threads=2) as opened:
        yield opened


def frame(atlas: Atlas, library: dict[str, Signature], **how: object) -> pd.DataFrame:
    found = atlas.screen(library, group_by=("study", "cell_type"), **how).to_frame()
    found[KEYS] = found[KEYS].astype(str)
    return found.sort_values(KEYS).reset_index(drop=True)


def test_means_alone_are_those_of_scored_cells(atlas, plain, library):
    scored = frame(atlas, library)
    shared = ["n_cells", "n_samples", "n_genes_measured", "n_genes", "n_genes_missing"]
    for which in (atlas, plain):
        means = frame(which, library, hits=None)
        assert not [name for name in means.columns if "hit" in name or name in ("sd", "max")]
        np.testing.assert_allclose(means["mean"], scored["mean"], rtol=1e-5, atol=1e-9)
        pd.testing.assert_frame_equal(means[KEYS + shared], scored[KEYS + shared])


def test_means_alone_list_the_highest_group_first(atlas, plain, library):
    for which in (atlas, plain):
        rows = which.screen(library, group_by="cell_type", hits=None).to_frame()
        for _, of_one in rows.groupby("signature", observed=True, sort=False):
            assert (np.diff(of_one["mean"]) <= 0).all()


def test_a_filter_is_honoured(atlas, library):
    by_donor = atlas.screen(library, group_by="donor", where={"study": "baron2016"}, hits=None).to_frame()
    for name in ("MS1", "SIGNED"):
        single = atlas.search(library[name], k=0, group_by="donor", where={"study": "baron2016"}).groups
        rows = by_donor[by_donor["signature"] == name]
        assert dict(zip(rows["donor"], rows["mean"], strict=True)) == pytest.approx(
            dict(zip(single["donor"], single["mean"], strict=True)), rel=1e-5
        )


def test_null_columns_are_near_those_of_single_searches_and_the_fdr_is_over_all_rows(atlas, library):
    rows = frame(atlas, library, null=True)
    for name, signature in library.items():
        single = atlas.search(signature, k=0, group_by=("study", "cell_type"), null=True).groups
        single[KEYS[1:]] = single[KEYS[1:]].astype(str)
        single = single.sort_values(KEYS[1:]).reset_index(drop=True)
        of_one = rows[rows["signature"] == name].reset_index(drop=True)
        for column in ("null_mean", "null_sd", "null_z"):
            np.testing.assert_allclose(of_one[column], single[column], rtol=1e-9, atol=1e-12)
        # a search refines p with random signatures, a screen does not
        np.testing.assert_allclose(of_one["null_p"], single["null_p"], rtol=1, atol=0.03)
    tested = rows["null_p"].notna()
    np.testing.assert_allclose(
        rows.loc[tested, "null_fdr"], false_discovery_control(rows.loc[tested, "null_p"])
    )


def test_the_null_needs_sums_of_whole_groups(tmp_path, plain, library):
    with pytest.raises(NoPseudobulk):
        plain.screen(library, null=True)
    path = tmp_path / "by_sample"
    build_atlas(path, [InputFile(file) for file in sorted(DATA.glob("*.h5ad"))], pseudobulk=("sample",))
    with Atlas.open(path, threads=1) as by_sample:
        with pytest.raises(GroupsNotWhole, match="cell_type"):
            by_sample.screen(library, group_by="cell_type", null=True)
        # where only means are asked for, the cells are scored instead
        by_type = by_sample.screen(library, group_by="cell_type", hits=None).to_frame()
    scored = plain.screen(library, group_by="cell_type", hits=None).to_frame()
    pd.testing.assert_frame_equal(by_type, scored)


def test_fdr_leaves_rows_without_p_alone():
    p = np.array([0.04, np.nan, 0.001, 1.0, 0.04])
    table = with_fdr(Table({"null_p": Column.numbers(p), "reason": Column.text(["a", "b", "c", "d", "e"])}))
    assert list(table.columns) == ["null_p", "null_fdr", "reason"]
    expected = np.full(5, np.nan)
    expected[[0, 2, 3, 4]] = false_discovery_control(p[[0, 2, 3, 4]])
    np.testing.assert_allclose(table["null_fdr"].values, expected)
    assert with_fdr(Table({"reason": Column.text(["a"])})).columns.keys() == {"reason"}


@pytest.mark.parametrize("n", [1, 3, 500])
def test_leading_genes_are_those_that_add_most_to_the_mean(atlas, plain, library, n):
    expected = {}
    for name, signature in library.items():
        table = atlas.explain(signature, k=0, group_by=("study", "cell_type")).gene_table.to_frame()
        for key, genes in table.groupby(["study", "cell_type"], observed=True):
            added = genes[genes["contribution"] > 0].sort_values("contribution", ascending=False)
            expected[(name, *map(str, key))] = dict(
                zip(added["gene"].astype(str)[:n], added["contribution"][:n], strict=True)
            )
    for which in (atlas, plain):
        rows = frame(which, library, n_leading=n)
        for row in rows.itertuples():
            genes = row.leading_genes.split(",") if isinstance(row.leading_genes, str) else []
            wanted = expected[row.signature, row.study, row.cell_type]
            # genes that add the same may stand in either order
            assert len(genes) == len(wanted)
            assert [wanted.get(g, 0) for g in genes] == pytest.approx(list(wanted.values()), rel=1e-4)


def test_a_skipped_signature_has_a_row_without_numbers(atlas, library):
    library = {"UNKNOWN": Signature({"NOT-A-GENE": 1.0}, "UNKNOWN")} | library
    for hits in ("percentile:95", None):
        rows = atlas.screen(library, hits=hits, null=True, n_leading=2).to_frame()
        row = rows[rows["signature"] == "UNKNOWN"].iloc[0]
        assert "NOT-A-GENE" in row["reason"]
        assert row.drop(["signature", "reason"]).isna().all()
        assert rows["reason"].notna().sum() == 1


@pytest.mark.parametrize("n", [0, 1, 5, 2_999, 3_000])
def test_the_largest_of_many_values_are_those_of_a_stable_sort(n: int) -> None:
    values = np.random.default_rng(n).integers(0, 40, (3_000, 7)).astype(float)
    wanted = np.argsort(-values, axis=0, kind="stable")[:n]
    np.testing.assert_array_equal(screen_genes._largest(values, n), wanted)
