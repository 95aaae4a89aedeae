"""The null of random signatures: its parts against enumeration and scipy, and calibrated on real cells.

Real cells: the committed subset always; the whole studies if the environment variable INSIGNIA_DATA, or else
the folder ../shared/data beside the project, has them.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.sparse import csr_matrix

from insignia_index import Atlas, InputFile, build_atlas, read_gmt
from insignia_index.kernels.random_sets import random_scores
from insignia_index.null.bins import Bins, Matching, match_genes, mixed_together
from insignia_index.null.group_null import FIRST, THOROUGH, GroupNull, NullTest, Refinement
from insignia_index.null.tail import pearson3_upper_tail, sampled_upper_tail
from insignia_model.fdr import false_discovery_rate

from .made import build, study
from .test_real_data import SOURCES, STUDIES, SUBSET

Matrix = np.ndarray
#: As few draws as refine at all.
QUICK = Refinement(n_draws=FIRST, most_terms=2e7)

# --- moments -------------------------------------------------------------------------------------------


def every_draw(m: Matrix, bins: Matrix, weights: dict[int, float]) -> Matrix:
    """Weighted sums (n_draws, n_groups) under all equally likely replacements, by enumeration."""
    totals = np.zeros((1, len(m)))
    for number in sorted({bins[gene] for gene in weights}):
        of_bin = [weight for gene, weight in weights.items() if bins[gene] == number]
        pool = np.flatnonzero(bins == number)
        ways = [m[:, list(chosen)] @ of_bin for chosen in itertools.permutations(pool, len(of_bin))]
        totals = (totals[:, None, :] + np.array(ways)[None]).reshape(-1, len(m))
    return totals


SIGNATURES = {
    "list": {0: 1.0, 1: 1.0, 6: 1.0},
    "weights": {0: 1.0, 1: -2.5, 2: 0.25, 7: 3.0},
    "one gene": {5: 2.0},
    "nearly a whole bin": {5: 1.0, 6: 1.0, 7: 1.0, 8: 1.0},
    "bins of two and of one": {9: 1.0, 10: -1.0, 11: 4.0, 0: 1.0},
}


def null_of(means: Matrix, of_gene: Matrix) -> GroupNull:
    """All groups have the same bins."""
    return GroupNull(means, [(np.arange(len(means)), Bins(of_gene))])


@pytest.mark.parametrize("weights", SIGNATURES.values(), ids=SIGNATURES)
def test_moments_are_those_of_all_draws(weights):
    bins = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 1])
    m = np.random.default_rng(3).lognormal(0, 1.5, (4, len(bins)))
    matrix = np.zeros((1, len(bins)))
    matrix[0, list(weights)] = list(weights.values())
    found = null_of(m, bins).test(csr_matrix(matrix), 2.0)
    draws = every_draw(m, bins, weights) / 2
    np.testing.assert_allclose(found.mean[0], m @ matrix[0] / 2)
    np.testing.assert_allclose(found.expected[0], draws.mean(axis=0))
    np.testing.assert_allclose(found.sd[0], draws.std(axis=0))
    np.testing.assert_allclose(found.skew[0], stats.skew(draws), atol=1e-8)
    np.testing.assert_allclose(found.z[0], (found.mean[0] - draws.mean(axis=0)) / draws.std(axis=0))


def test_a_score_that_cannot_vary_is_not_tested():
    bins = np.array([0, 0, 1, 2, 2])
    m = np.array([[1.0, 5, 3, 0, 0], [2, 1, 7, 0, 0]])
    rows = csr_matrix([[1.0, 1, 0, 0, 0], [0, 0, 2, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]])
    found = null_of(m, bins).test(rows, refinement=THOROUGH)
    np.testing.assert_allclose(found.expected, found.mean)
    assert (found.sd == 0).all()
    assert np.isnan([found.z, found.p, found.skew]).all()
    empty = null_of(np.zeros((0, 5)), bins).test(rows)
    assert empty.p.shape == (4, 0)


def test_a_signature_has_its_answer_whatever_else_is_asked():
    rng = np.random.default_rng(0)
    null = null_of(rng.lognormal(0, 2, (5, 300)), rng.integers(0, 3, 300))
    rows = csr_matrix((rng.random((20, 300)) < 0.1) * rng.normal(size=(20, 300)))
    together = null.test(rows, refinement=QUICK)
    for i in (0, 7, 19):
        alone = null.test(rows[i], refinement=QUICK)
        np.testing.assert_allclose(alone.p[0], together.p[i], rtol=1e-12)


# --- tails ---------------------------------------------------------------------------------------------


def test_the_tail_is_scipys_pearson3():
    z, skew = (a.ravel() for a in np.meshgrid(np.linspace(-3, 12, 61), [-2.0, -0.4, 0.01, 0.5, 2, 6]))
    p, wanted = pearson3_upper_tail(z, skew), stats.pearson3.sf(z, skew)
    trusted = (skew > 0) | (wanted > 1e-4)
    np.testing.assert_allclose(p[trusted], np.maximum(wanted[trusted], 1e-300), rtol=1e-6)
    # beyond the end of a left-skewed one: never 0, never above what the normal says
    assert (p[~trusted] > 0).all()
    assert (p[~trusted] <= np.maximum(stats.norm.sf(z[~trusted]), wanted[~trusted]) * (1 + 1e-9)).all()
    assert np.isnan(pearson3_upper_tail(np.array([np.nan]), np.array([1.0]))).all()


@pytest.mark.parametrize(
    "law", [stats.norm(), stats.gamma(2), stats.lognorm(0.8)], ids=["normal", "gamma", "lognormal"]
)
def test_a_sampled_tail_is_right_within_a_factor(law):
    p = np.array([0.3, 0.05, 0.01, 1e-3, 1e-4])
    draws = law.rvs((10_000, 400), random_state=1)
    for wanted in p:
        at = np.full(400, law.isf(wanted))
        found, _ = sampled_upper_tail(draws, at, np.zeros(400))
        assert 0.8 < found.mean() / wanted < 2.5


def test_draws_that_tie_are_counted():
    draws = np.repeat([[0.0, 1.0]], 100, axis=0)
    p, reach = sampled_upper_tail(draws, np.array([0.0, 1.0 + 1e-13]), np.full(2, 1e-12))
    assert p.tolist() == [1, 1]
    assert reach.tolist() == [100, 100]
    above, _ = sampled_upper_tail(draws, np.array([1.0, 2.0]), np.full(2, 1e-12))
    assert above.tolist() == [1 / 101, 1 / 101]


def test_fdr_is_benjamini_and_hochbergs():
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.5, 0.01])
    n = 5
    wanted = []
    for i, value in enumerate(p):
        if np.isnan(value):
            wanted.append(np.nan)
        else:
            above = [q for j, q in enumerate(p) if q >= p[i]]
            wanted.append(min(1.0, *(q * n / (p <= q).sum() for q in above), 1.0))
    np.testing.assert_allclose(false_discovery_rate(p), wanted)
    assert np.isnan(false_discovery_rate(np.full(2, np.nan))).all()
    assert len(false_discovery_rate(np.empty(0))) == 0


# --- draws ---------------------------------------------------------------------------------------------


def test_draws_take_no_gene_twice_and_all_alike():
    values = np.eye(9)  # a column a gene: what was drawn
    starts, sizes = np.array([0, 0, 0, 4]), np.array([4, 4, 4, 5])
    out = np.empty((60_000, 9))
    random_scores(values, starts, sizes, np.array([1.0, 10, 100, 1000]), np.uint64(5), out)
    assert set(np.unique(out[:, :4])) == {0, 1, 10, 100}
    assert (np.sort(out[:, :4], axis=1) == [0, 1, 10, 100]).all()
    assert (np.sort(out[:, 4:], axis=1) == [0, 0, 0, 0, 1000]).all()
    for columns, weight, share in ((range(4), 1, 1 / 4), (range(4), 100, 1 / 4), (range(4, 9), 1000, 1 / 5)):
        for column in columns:
            assert abs((out[:, column] == weight).mean() - share) < 0.01
    fewer, other = np.empty((50, 9)), np.empty((50, 9))
    random_scores(values, starts, sizes, np.array([1.0, 10, 100, 1000]), np.uint64(5), fewer)
    random_scores(values, starts, sizes, np.array([1.0, 10, 100, 1000]), np.uint64(6), other)
    assert np.array_equal(fewer, out[:50])
    assert not np.array_equal(fewer, other)


# --- matching ------------------------------------------------------------------------------------------


def matched(detection: Matrix, mean: Matrix) -> Matrix:
    """Bins by the documented definition: 0 for genes that no cell has, then quantiles of quantiles."""
    bins = np.zeros(len(detection), int)
    some = np.flatnonzero(detection > 0)
    n = max(1, int((len(some) / 100) ** 0.5))
    some = some[np.lexsort((some, mean[some], detection[some]))]
    parts = [q for part in np.array_split(some, n) for q in np.array_split(part[np.argsort(mean[part])], n)]
    for i, part in enumerate(parts):
        bins[part] = i + 1
    return bins


def test_bins_hold_about_a_hundred_alike_genes():
    rng = np.random.default_rng(0)
    detection, mean = rng.beta(0.3, 2, 5000), rng.lognormal(0, 2, 5000)
    detection[:700] = 0
    found = match_genes(detection, mean)
    assert np.array_equal(found.of_gene, matched(detection, mean))
    assert found.sizes[0] == 700
    assert 90 <= found.sizes[1:].min() <= found.sizes[1:].max() <= 125
    assert sorted(np.concatenate([found.genes(b) for b in range(len(found.sizes))])) == list(range(5000))


def test_genes_that_studies_lack_stand_for_one_another(tmp_path):
    shared, only = [f"S{i}" for i in range(200)], [f"O{i}" for i in range(150)]
    whole = study("whole", 80, [*shared, *only], density=0.8, cell_type=["x"] * 80)
    panel = study("panel", 60, shared, density=0.8, cell_type=["x"] * 60)
    with Atlas.open(build(tmp_path, [whole, panel])) as atlas:
        snapshot, matching = atlas._session.snapshot, atlas._session.nulls.matching
        sets, ids = snapshot.measured_sets[0], snapshot.gene_ids
        of_panel = matching.bins(np.array([0 if genes[ids["O0"]] else 60 for genes in sets])).of_gene
        assert {of_panel[ids[g]] for g in only} == {0}
        assert 0 not in {of_panel[ids[g]] for g in shared}
        result = atlas.search([*only[:10], *shared[:5]], null=True)
        rows = {row["study"]: row for row in result.group_table.rows()}
        fewer = atlas.search(shared[:5], null=True)
        assert rows["panel"]["n_genes_measured"] == 5
        panel_z = {row["study"]: row["null_z"] for row in fewer.group_table.rows()}["panel"]
        assert rows["panel"]["null_z"] == pytest.approx(panel_z, rel=1e-6)  # absent genes say nothing
        nothing = {r["study"]: r for r in atlas.search(only[:10], null=True).group_table.rows()}["panel"]
        assert (nothing["null_sd"], nothing["null_z"], nothing["null_p"], nothing["null_fdr"]) == (
            0,
            None,
            None,
            None,
        )


# --- real cells ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SOURCES)
def atlas(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    folder: Path = SOURCES[request.param]
    if not all((folder / f"{name}.h5ad").exists() for name in STUDIES):
        pytest.skip(
            f"{folder} has no real studies; set INSIGNIA_DATA to a folder that has attributions/*.h5ad"
        )
    path = tmp_path_factory.mktemp("null") / "atlas"
    build_atlas(path, [InputFile(folder / f"{name}.h5ad") for name in STUDIES])
    with Atlas.open(path, threads=2) as opened:
        yield opened


def random_sets(bins: Matrix, n_sets: int, rng: np.random.Generator) -> csr_matrix:
    """Sets of 10-200 genes: of each bin as many as a random set of detected genes has, drawn anew."""
    detected = np.flatnonzero(bins > 0)
    pools = [np.flatnonzero(bins == b) for b in range(bins.max() + 1)]
    rows = []
    for _ in range(n_sets):
        like = rng.choice(detected, rng.integers(10, 201), replace=False)
        numbers, counts = np.unique(bins[like], return_counts=True)
        drawn = [rng.choice(pools[b], n, replace=False) for b, n in zip(numbers, counts, strict=True)]
        rows.append(np.concatenate(drawn))
    starts = np.cumsum([0, *map(len, rows)])
    return csr_matrix((np.ones(starts[-1]), np.concatenate(rows), starts), shape=(n_sets, len(bins)))


def answers_for_random_sets(
    atlas: Atlas, group_by: tuple[str, ...], n_sets: int, refinement: object, min_cells: int
) -> NullTest:
    """The null's answers for random sets drawn by this file's own matching, in groups of enough cells."""
    session = atlas._session
    pseudobulk = session.nulls.pseudobulk
    detecting, total = pseudobulk.gene_totals()
    n_cells = session.snapshot.n_cells
    rows = random_sets(matched(detecting / n_cells, total / n_cells), n_sets, np.random.default_rng(7))
    grouping = session.groupings.get(group_by, (), None)
    groups = pseudobulk.unit_groups(grouping, group_by, ())
    cells = np.bincount(groups, pseudobulk.n_cells, grouping.n_groups)
    large = np.flatnonzero(cells >= min_cells)
    means = pseudobulk.group_sums(groups, grouping.n_groups) / cells[:, None]
    assert len(session.snapshot.measured_sets[0]) == 1
    bins = session.nulls.matching.bins(np.array([n_cells]))
    return null_of(means[large], bins.of_gene).test(rows, refinement=refinement)


@pytest.mark.parametrize(
    "group_by", [("study",), ("sample",), ("sample", "cell_type")], ids=lambda by: " x ".join(by)
)
def test_random_matched_sets_have_uniform_p(atlas, group_by):
    p = answers_for_random_sets(atlas, group_by, 2000, None, 10).p
    assert 0.04 < (p < 0.05).mean() < 0.06
    assert (p < 0.001).mean() < 0.003
    assert 0.4 < (p < 0.5).mean() < 0.6


def test_refined_p_are_uniform_too(atlas):
    p = answers_for_random_sets(atlas, ("study",), 2000, QUICK, 10).p
    assert 0.04 < (p < 0.05).mean() < 0.06
    assert (p < 0.001).mean() < 0.002
    assert 0.005 < (p < 0.01).mean() < 0.013  # with few draws a fitted tail makes p rather too large


def test_the_interferon_response_is_more_than_chance_only_where_interferon_was_given(atlas):
    interferon = read_gmt(SUBSET / "signatures.gmt")["HALLMARK_INTERFERON_ALPHA_RESPONSE"]
    result = atlas.search(interferon, group_by="sample", where={"study": "kang2018"}, null=True)
    rows = {row["sample"]: row for row in result.group_table.rows()}
    assert rows["kang_stimulated"]["null_z"] > 8
    assert rows["kang_stimulated"]["null_p"] < 1e-6
    assert rows["kang_stimulated"]["null_fdr"] < 1e-6
    assert rows["kang_control"]["null_p"] > 0.05
    again = atlas.search(interferon, group_by="sample", where={"study": "kang2018"}, null=True)
    assert [*again.group_table.rows()] == [*result.group_table.rows()]


def test_means_of_the_sums_are_those_of_the_search(atlas):
    session = atlas._session
    for name, signature in read_gmt(SUBSET / "signatures.gmt").items():
        result = atlas.search(signature, group_by=("study", "sample", "cell_type"), k=0)
        ids = [session.snapshot.gene_ids[gene] for gene in result.genes.resolved.values()]
        weights = csr_matrix(
            (np.ones(len(ids)), np.sort(ids), [0, len(ids)]), shape=(1, len(session.snapshot.genes))
        )
        pseudobulk = session.nulls.pseudobulk
        sums = pseudobulk.group_sums(np.arange(pseudobulk.n_units), pseudobulk.n_units)
        scores = (weights @ sums.T)[0] / pseudobulk.n_cells / len(ids)
        units = pseudobulk.units.to_frame().assign(score=scores)
        both = result.groups.astype({"cell_type": str}).merge(
            units.astype({"cell_type": str}), on=["study", "sample", "cell_type"]
        )
        assert len(both) == len(units) == len(result.groups), name
        np.testing.assert_allclose(both["score"], both["mean"], rtol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def patchy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Atlas, Matrix, Matrix]]:
    """Real cells in six studies of which each lacks a random quarter of the genes.

    With the genes that 20 cells or more have, bool (n_genes,), and that each study measured, bool
    (6, n_genes), in the order of the atlas.
    """
    rng, folder = np.random.default_rng(1), tmp_path_factory.mktemp("patchy")
    whole = anndata.read_h5ad(SUBSET / "kang2018.h5ad")
    of_cell = rng.integers(0, 6, whole.n_obs)
    measured = rng.random((6, whole.n_vars)) >= 0.25
    for i, its_genes in enumerate(measured):
        part = whole[of_cell == i, its_genes].copy()
        part.obs = part.obs[["sample", "cell_type"]]
        part.write_h5ad(folder / f"s{i}.h5ad")
    build_atlas(folder / "atlas", [InputFile(folder / f"s{i}.h5ad") for i in range(6)])
    with Atlas.open(folder / "atlas", threads=2) as atlas:
        order = whole.var_names.get_indexer(atlas._session.snapshot.genes)
        detected = np.asarray((whole.X != 0).sum(axis=0)).ravel() >= 20
        yield atlas, detected[order], measured[:, order]


@pytest.mark.parametrize("group_by", ["study", "cell_type"])
def test_where_studies_lack_other_genes_random_sets_of_theirs_have_uniform_p(patchy, group_by):
    """Compared with genes that the study lacks, a fifth of p would be below 0.05."""
    atlas, detected, measured = patchy
    names, rng = np.array(atlas._session.snapshot.genes), np.random.default_rng(2)
    found = []
    for i in range(3):
        pool = names[detected & (measured[i] if group_by == "study" else measured.any(axis=0))]
        sets = {str(n): list(rng.choice(pool, 50, replace=False)) for n in range(500)}
        rows = atlas.screen(sets, group_by=group_by, hits=None, null=True).to_frame()
        of_group = rows["n_cells"] >= 100 if group_by == "cell_type" else rows["study"] == f"s{i}"
        found.append(rows.loc[of_group, ["null_p", "null_z"]])
    p, z = pd.concat(found).to_numpy().T
    assert len(p) >= 1500
    assert abs(z.mean()) < 0.1
    assert 0.03 < np.mean(p < 0.05) < 0.07
    assert np.mean(p < 0.001) < 0.004


def test_groups_of_the_same_proportions_of_studies_share_their_bins(monkeypatch):
    rng = np.random.default_rng(0)
    sets = rng.random((3, 2000)) < 0.8
    matching = Matching(rng.beta(0.3, 2, 2000), rng.lognormal(0, 2, 2000), sets)
    cells = np.array([[5, 0, 0], [0, 7, 0], [1, 2, 0], [2, 4, 0], [0, 3, 3], [10, 0, 0], [0, 0, 0]])
    found = matching.of_groups(cells)
    assert [groups.tolist() for groups, _ in found] == [[0, 5], [1], [2, 3], [4], [6]]
    assert all((bins.of_gene[~sets[i]] == 0).all() for i, (_, bins) in enumerate(found[:2]))
    assert len(found[4][1].sizes) == 1
    monkeypatch.setattr("insignia_index.null.bins.MOST_MIXED", 2)
    assert mixed_together(csr_matrix(cells)) is None
    monkeypatch.setattr("insignia_index.null.bins.MOST_MIXED", 1)
    assert mixed_together(csr_matrix(cells)).tolist() == [3, 9, 3]


def test_beyond_so_many_mixtures_of_studies_all_have_the_same_bins(patchy, monkeypatch):
    atlas = patchy[0]
    session = atlas._session

    def bins_of(group_by: str) -> list[list[int]]:
        grouping = session.groupings.get((group_by,), (), None)
        session.nulls._kept.clear()
        ((_, null),) = session.nulls.group_nulls(grouping, (group_by,), ())
        return [part.groups.tolist() for part in null._parts]

    assert len(bins_of("cell_type")) > 2
    monkeypatch.setattr("insignia_index.null.bins.MOST_MIXED", 1)
    assert len(bins_of("study")) == 6
    assert len(bins_of("cell_type")) < 3
