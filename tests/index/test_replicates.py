"""Which samples are compared, how, and that chance alone gives uniform p."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from insignia_index import Atlas, InputFile, build_atlas, read_gmt
from insignia_index.statistics.replicates import Sides, choose_design, compare, with_fdr

DATA = Path(__file__).parents[1] / "data"


def sides(study: list[int], cells_a: list[int], cells_b: list[int]) -> Sides:
    """Samples with so many cells on each side, every second cell a hit, scores that differ."""
    cells = np.array([cells_a, cells_b], np.int64)
    rng = np.random.default_rng(len(study))
    sums = cells * rng.random(cells.shape)
    return Sides(np.array(study, np.int64), cells, cells // 2, sums, squares(cells, sums), ("x=A", "x=B"))


def squares(cells: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Sums of squares of scores whose variance within a sample and side is 1."""
    return sums**2 / np.maximum(cells, 1) + np.maximum(cells - 1, 0)


def test_samples_with_cells_on_both_sides_are_pairs() -> None:
    given = sides([0, 0, 0, 1], [10, 10, 10, 10], [10, 30, 10, 9])
    design = choose_design(given, 10, 3)
    assert design.kind == "paired"
    assert design.first.tolist() == design.second.tolist() == [0, 1, 2]  # the last has 9 cells on one side
    a, b = given.values("mean")[:, :3]
    row = compare(given, 10, 3)[1]
    assert row.measure == "mean"
    assert row.estimate.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert row.n_samples == (3, 3)
    assert row.n_studies == 1


def test_samples_on_one_side_are_compared_within_studies_that_have_both() -> None:
    design = choose_design(sides([0, 0, 0, 1, 1, 1, 2, 2], [9] * 2 + [0] + [9] * 2 + [0, 9, 9],
                                 [0, 0, 9, 0, 0, 9, 0, 0]), 5, 2)  # fmt: skip
    assert design.kind == "stratified"
    assert design.first.tolist() == [0, 1, 3, 4]  # not those of study 2, which has only one side
    assert design.second.tolist() == [2, 5]


def test_the_design_with_more_information_is_used_and_no_sample_twice() -> None:
    few_pairs = sides([0] * 15, [9] * 3 + [9] * 6 + [0] * 6, [9] * 3 + [0] * 6 + [9] * 6)
    design = choose_design(few_pairs, 5, 3)
    assert design.kind == "unpaired"
    assert design.first.tolist() == list(range(3, 9))
    assert design.second.tolist() == list(range(9, 15))
    few_apart = sides([0] * 10, [9] * 7 + [0] * 3, [9] * 6 + [0] + [9] * 3)
    assert choose_design(few_apart, 5, 3).kind == "paired"
    # too few apart: pairs, although fewer
    assert (
        choose_design(sides([0] * 13, [9] * 11 + [0] * 2, [9] * 3 + [0] * 8 + [9] * 2), 5, 3).kind == "paired"
    )


NEEDED = "; at least 3 on each side are needed"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (([0, 0], [90, 0], [0, 90]), "2 samples: 1 with x=A, 1 with x=B" + NEEDED),
        (
            ([0, 0], [90, 90], [90, 9]),
            "2 samples of at least 10 cells: 2 with x=A, 1 with x=B, 1 of them with both" + NEEDED,
        ),
        (
            ([0, 0, 0, 1, 1, 1], [90] * 3 + [0] * 3, [0] * 3 + [90] * 3),
            "6 samples: 3 with x=A, 3 with x=B, but too few of them in studies that have both sides",
        ),
        (([], [], []), "0 samples: 0 with x=A, 0 with x=B" + NEEDED),
    ],
)
def test_too_few_replicates_are_told_in_words(given: tuple[list[int], ...], words: str) -> None:
    for row in compare(sides(*given), 10, 3):
        assert row.reason.startswith(words)
        assert row.estimate is row.summary is row.fdr is None


def test_values_without_spread_are_told_in_words() -> None:
    rows = compare(sides([0] * 6, [10] * 3 + [0] * 3, [0] * 3 + [10] * 3), 10, 3)
    assert [row.reason is None for row in rows] == [False, True]  # half of all cells are hits everywhere
    assert (
        rows[0].reason
        == "samples of one side do not differ, nor do the sides: there is no spread to test against"
    )
    found = with_fdr(rows)
    assert found[0].fdr is None
    assert found[1].fdr == pytest.approx(rows[1].estimate.p)


def test_fdr_is_that_of_benjamini_and_hochberg_over_the_rows_that_have_a_p() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(20):
        cells = np.array([[50] * 4 + [0] * 4, [0] * 4 + [50] * 4])
        sums = cells * (rng.random(cells.shape) + np.array([[i / 10], [0]]))
        rows += compare(
            Sides(np.zeros(8, int), cells, cells // 2, sums, squares(cells, sums), ("a", "b")), 10, 3
        )
    p = [row.estimate.p for row in rows if row.reason is None]
    assert len(p) == 20
    found = [row.fdr for row in with_fdr(rows) if row.fdr is not None]
    assert found == pytest.approx(multipletests(p, method="fdr_bh")[1])


def test_studies_are_summarised_from_enough_samples_each() -> None:
    study = np.repeat([0, 1, 2], 8)
    first = np.tile([1, 0], 12)
    cells = np.stack([first, 1 - first]) * 20
    values = np.random.default_rng(5).random(cells.shape)
    sums = cells * values
    given = Sides(study, cells, cells // 2, sums, squares(cells, sums), ("a", "b"))
    summary = compare(given, 10, 3)[1].summary
    assert summary.n_studies == 3
    effects = [values[0, s][first[s] == 1].mean() - values[1, s][first[s] == 0].mean()
               for s in (study == k for k in range(3))]  # fmt: skip
    assert min(effects) <= summary.effect <= max(effects)
    assert compare(given, 10, 5)[1].summary is None  # four on each side


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Real scores, and which are hits, of two signatures."""
    path = tmp_path_factory.mktemp("calibration") / "atlas"
    build_atlas(path, [InputFile(file) for file in sorted(DATA.glob("*.h5ad"))])
    sets = read_gmt(DATA / "signatures.gmt")
    found = {}
    with Atlas.open(path) as atlas:
        for name in ("HALLMARK_HYPOXIA", "MS1"):
            scores = atlas.scores(sets[name]).values.astype(np.float64)
            found[name] = scores, scores > np.percentile(scores, 95)
    return found


N_SHUFFLES = 1000
STUDY = np.repeat(np.arange(4), 10)
P = dict[str, list[float]]


def forty_samples(scores: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Cells of 40 samples of 4 studies: a random part of all cells, around a rank of the sample's own."""
    order = np.argsort(scores)
    level = 0.1 * rng.normal(size=4)[STUDY] + 0.15 * rng.normal(size=40) + 0.6
    ranks = np.clip(level[:, None] + 0.25 * rng.normal(size=(40, 150)), 0, 1 - 1e-9)
    return list(order[(ranks * len(scores)).astype(int)])


def totals(parts: list[np.ndarray], scores: np.ndarray, hit: np.ndarray) -> list[np.ndarray]:
    summands = np.ones(len(scores), int), hit, scores, scores**2
    return [np.array([values[part].sum() for part in parts]) for values in summands]


def collect(found: P, given: Sides) -> None:
    for row in compare(given, 10, 3):
        if row.reason is None:
            found[row.measure].append(row.estimate.p)


def check_uniform(found: P) -> None:
    """With 1,000 shuffles the share below 0.05 has a standard error of 0.007: bounds of three of them."""
    for measure, p in found.items():
        assert len(p) > 0.9 * N_SHUFFLES, measure
        assert 0.03 <= np.mean(np.array(p) < 0.05) <= 0.07, measure
        assert np.mean(np.array(p) < 0.001) < 0.005, measure
        assert stats.kstest(p, "uniform").pvalue > 1e-4, measure


@pytest.mark.parametrize("n_group", [2, 5])
@pytest.mark.parametrize("signature", ["HALLMARK_HYPOXIA", "MS1"])
def test_shuffled_labels_of_whole_samples_give_uniform_p(cells: dict, signature: str, n_group: int) -> None:
    scores, hit = cells[signature]
    rng = np.random.default_rng(n_group)
    of_sample = totals(forty_samples(scores, rng), scores, hit)
    found: P = {"hit_fraction": [], "mean": []}
    for _ in range(N_SHUFFLES):
        inside = rng.permuted(np.tile(np.arange(10) < n_group, (4, 1)), axis=1).ravel()
        collect(found, Sides(STUDY, *(np.stack([inside * v, ~inside * v]) for v in of_sample), ("a", "b")))
    check_uniform(found)


@pytest.mark.parametrize("signature", ["HALLMARK_HYPOXIA", "MS1"])
def test_shuffled_groups_within_samples_give_uniform_p_only_because_they_are_paired(
    cells: dict, signature: str
) -> None:
    scores, hit = cells[signature]
    rng = np.random.default_rng(7)
    parts = forty_samples(scores, rng)
    found: P = {"hit_fraction": [], "mean": []}
    unpaired = []
    for _ in range(N_SHUFFLES):
        split = [rng.permutation(part) for part in parts]
        sums = [totals([p[:50] for p in split], scores, hit), totals([p[50:] for p in split], scores, hit)]
        given = Sides(STUDY, *(np.stack(pair) for pair in zip(*sums, strict=True)), ("a", "b"))
        collect(found, given)
        unpaired.append(stats.ttest_ind(*given.values("mean")).pvalue)
    check_uniform(found)
    # taken as independent, they would be blind: a sample's own level is most of the spread
    assert np.mean(np.array(unpaired) < 0.05) < 0.02


@pytest.mark.filterwarnings("ignore:Precision loss")  # of the plain test, where no cell is a hit
@pytest.mark.parametrize(
    ("n_samples", "n_cells"), [((3, 20), (12, 300)), ((20, 3), (12, 300)), ((8, 8), (10, 200))]
)
@pytest.mark.parametrize("signature", ["HALLMARK_HYPOXIA", "MS1"])
def test_sides_of_few_and_of_many_cells_a_sample_give_p_that_are_not_too_small(
    cells: dict, signature: str, n_samples: tuple[int, int], n_cells: tuple[int, int]
) -> None:
    """Without weights a third of p would be below 0.05: three means of 12 cells against 20 of 300."""
    scores, hit = cells[signature]
    rng = np.random.default_rng(11)
    found: P = {"hit_fraction": [], "mean": []}
    plain: P = {"hit_fraction": [], "mean": []}
    is_first = np.arange(sum(n_samples)) < n_samples[0]
    for _ in range(400):
        parts = [rng.integers(0, len(scores), n_cells[0 if first else 1]) for first in is_first]
        of_sample = totals(parts, scores, hit)
        given = Sides(
            np.zeros(len(parts), int),
            *(np.stack([is_first * v, ~is_first * v]) for v in of_sample),
            ("a", "b"),
        )
        collect(found, given)
        for measure, p in plain.items():
            values = given.values(measure)
            p.append(stats.ttest_ind(values[0, is_first], values[1, ~is_first]).pvalue)
    for measure, p in found.items():
        assert np.mean(np.array(p) < 0.05) < 0.08, measure
        assert np.mean(np.array(p) < 0.001) < 0.01, measure
        if n_samples == (3, 20):
            assert np.mean(np.array(plain[measure]) < 0.05) > 0.15, measure


@pytest.mark.parametrize("large", [(4, 4, 20_000, 0.001), (20, 20, 20_000, 0.0005), (10, 10, 2_000, 0.02)])
def test_a_study_of_many_cells_does_not_say_how_those_of_another_vary(
    large: tuple[int, int, int, float],
) -> None:
    """One rate for both studies would give p below 0.05 in a fifth of these."""
    n_a, n_b, n_cells, rate = large
    rng, p = np.random.default_rng(3), []
    study = np.repeat([0, 1], [n_a + n_b, 23])
    is_first = np.r_[np.arange(n_a + n_b) < n_a, np.arange(23) < 3]
    cells = np.r_[np.full(n_a + n_b, n_cells), np.where(np.arange(23) < 3, 12, 300)]
    for _ in range(400):
        hits = rng.binomial(cells, np.where(study == 0, rate, 0.5))
        of_sides = (np.stack([is_first * v, ~is_first * v]) for v in (cells, hits, hits, hits))
        p.append(compare(Sides(study, *of_sides, ("a", "b")), 10, 3)[0].estimate.p)
    assert np.mean(np.array(p) < 0.05) < 0.08
    assert np.mean(np.array(p) < 0.001) < 0.01
