"""Formulas equal those of scipy, statsmodels and R."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from insignia_index.statistics.linear import Estimate, correction, paired, stratified
from insignia_index.statistics.meta import random_effects

from .weighted_fit import weighted


def fitted(
    formula: str, values: pd.DataFrame
) -> tuple[float, float, float, float, tuple[float, float], float]:
    """Effect of ``side``, its standard error, df, p, interval and the residual standard deviation."""
    fit = smf.ols(formula, values).fit()
    low, high = fit.conf_int().loc["side"]
    effect, se, p = (of["side"] for of in (fit.params, fit.bse, fit.pvalues))
    return effect, se, fit.df_resid, p, (low, high), fit.mse_resid**0.5


def check(estimate, wanted) -> None:
    effect, se, df, p, interval, _ = wanted
    assert estimate.df == df
    assert estimate.effect == pytest.approx(effect, rel=1e-9, abs=1e-12)
    assert estimate.se == pytest.approx(se, rel=1e-9)
    assert estimate.p == pytest.approx(p, rel=1e-7)
    assert estimate.interval == pytest.approx(interval, rel=1e-8, abs=1e-12)


def even(a: np.ndarray, study_a: np.ndarray, b: np.ndarray, study_b: np.ndarray) -> Estimate:
    """No value has noise."""
    return stratified(a, study_a, b, study_b, np.zeros(len(a)), np.zeros(len(b)))


@settings(max_examples=40)
@given(
    numbers=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_stratified_is_the_linear_model_with_a_fixed_effect_of_the_study(
    numbers: list[tuple[int, int]], seed: int
) -> None:
    if sum(a + b for a, b in numbers) - len(numbers) - 1 < 1:
        return
    rng = np.random.default_rng(seed)
    study_a = np.repeat(np.arange(len(numbers)), [a for a, _ in numbers])
    study_b = np.repeat(np.arange(len(numbers)), [b for _, b in numbers])
    level = rng.normal(0, 5, len(numbers))
    a = level[study_a] + rng.normal(1, 2, len(study_a))
    b = level[study_b] + rng.normal(0, 2, len(study_b))
    values = pd.DataFrame(
        {"y": np.r_[a, b], "study": np.r_[study_a, study_b], "side": np.r_[np.ones(len(a)), np.zeros(len(b))]}
    )
    wanted = fitted("y ~ C(study) + side" if len(numbers) > 1 else "y ~ side", values)
    found = even(a, study_a, b, study_b)
    check(found, wanted)
    assert found.sd == pytest.approx(wanted[-1])


@settings(max_examples=40)
@given(
    numbers=st.lists(st.tuples(st.integers(2, 6), st.integers(2, 6)), min_size=1, max_size=4),
    true_sd=st.sampled_from([0.0, 0.5, 3.0]),
    levels=st.sampled_from([[0.01, 0.1, 1.0], [0.5]]),
    seed=st.integers(0, 2**32),
)
def test_values_of_few_cells_weigh_less(
    numbers: list[tuple[int, int]], true_sd: float, levels: list[float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    study = [np.repeat(np.arange(len(numbers)), n) for n in zip(*numbers, strict=True)]
    noise = [rng.choice(levels, len(s)) for s in study]
    a, b = (rng.normal(0, np.sqrt(n + true_sd**2)) for n in noise)
    found = stratified(a, study[0], b, study[1], *noise)
    frame = pd.DataFrame({"y": np.r_[a, b], "study": np.concatenate(study), "noise": np.concatenate(noise)})
    frame["side"] = np.repeat([1.0, 0.0], [len(a), len(b)])
    fit = weighted("y ~ C(study) + side" if len(numbers) > 1 else "y ~ side", frame)
    assert (found.effect, found.se, found.df) == pytest.approx(
        (fit.params["side"], fit.bse["side"], fit.df_resid), rel=1e-6, abs=1e-9
    )
    assert found.p == pytest.approx(fit.pvalues["side"], rel=1e-5)


def test_one_study_is_student_and_pairs_are_the_model_with_an_effect_of_the_sample() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(1, 1, 7), rng.normal(0, 1, 7)
    t, p = stats.ttest_ind(a, b)
    found = even(a, np.zeros(7, int), b, np.zeros(7, int))
    assert (found.t, found.p) == pytest.approx((t, p))
    level = rng.normal(0, 10, 7)
    a, b = a + level, b + level
    t, p = stats.ttest_rel(a, b)
    found = paired(a, b, np.array([0, 0, 0, 1, 1, 2, 2]))
    assert (found.t, found.p, found.df) == pytest.approx((t, p, 6))
    values = pd.DataFrame(
        {"y": np.r_[a, b], "sample": np.tile(np.arange(7), 2), "side": np.repeat([1, 0], 7)}
    )
    check(found, fitted("y ~ C(sample) + side", values))


def test_p_is_right_far_out_in_the_tail() -> None:
    a, b = np.arange(30) + 1e4, np.arange(30.0)
    found = even(a, np.zeros(30, int), b, np.zeros(30, int))
    assert 0 < found.p < 1e-100
    assert found.p == pytest.approx(2 * stats.t.sf(found.t, 58), rel=1e-6)


def test_no_spread_has_an_effect_and_no_p() -> None:
    for a, b in (
        (np.zeros(3), np.zeros(3)),
        (np.full(3, 0.1) + 0.2, np.full(3, 0.3)),
        (np.ones(3), np.zeros(3)),
    ):
        for found in (paired(a, b, np.zeros(3, int)), even(a, np.zeros(3, int), b, np.zeros(3, int))):
            assert found.se == 0
            assert np.isnan([found.p, *found.interval, found.hedges_g]).all()
            assert found.effect == pytest.approx(a[0] - b[0], abs=1e-15)


def test_hedges_g_is_that_of_r_metafor() -> None:
    """`escalc(measure="SMD")` of Chen and Peace, Applied Meta-Analysis with R, from statsmodels' tests."""
    wanted = [0.09452415852032972, 0.27735586626551018, 0.36654442951591998, 0.66438496832691396,
              0.46180628128769841, 0.18516443739910043]  # fmt: skip
    trials = [(94, 22, 60, 92, 20, 60), (98, 21, 65, 92, 22, 65), (98, 28, 40, 88, 26, 40),
              (94, 19, 200, 82, 17, 200), (98, 21, 50, 88, 22, 45), (96, 21, 85, 92, 22, 85)]  # fmt: skip
    for g, (mean_a, sd_a, n_a, mean_b, sd_b, n_b) in zip(wanted, trials, strict=True):
        a, b = standard(n_a) * sd_a + mean_a, standard(n_b) * sd_b + mean_b
        found = even(a, np.zeros(n_a, int), b, np.zeros(n_b, int))
        assert found.hedges_g == pytest.approx(g, rel=1e-9)
    assert correction(10) == pytest.approx(1 - 3 / (4 * 10 - 1), rel=2e-3)  # the usual approximation


def standard(n: int) -> np.ndarray:
    """Values of mean 0 and standard deviation 1."""
    values = np.arange(n) - (n - 1) / 2
    return values / values.std(ddof=1)


#: Kacker 2004; `rma(y, v, method="PM")` and, for I2, `method="DL"` of metafor, from statsmodels' tests.
KACKER = (
    np.array([61.0, 61.4, 62.21, 62.3, 62.34, 62.6, 62.7, 62.84, 65.9]),
    np.array([0.2025, 1.2100, 0.0900, 0.2025, 0.3844, 0.5625, 0.0676, 0.0225, 1.8225]),
)


def test_random_effects_are_those_of_r_metafor() -> None:
    found = random_effects(*KACKER)
    assert found.n_studies == 9
    assert found.effect == pytest.approx(62.4076199113286, rel=1e-12)
    assert found.tau2 == pytest.approx(0.705395309224248, rel=1e-10)
    assert found.q == pytest.approx(24.801897741835, rel=1e-10)
    assert found.i2 == pytest.approx(0.67744403741711, rel=1e-10)
    # with Paule and Mandel's tau2, Hartung and Knapp's standard error is the usual one
    half = stats.t.ppf(0.975, 8) * 0.338030602684471
    assert (found.low, found.high) == pytest.approx((found.effect - half, found.effect + half), rel=1e-10)


@settings(max_examples=40)
@given(k=st.integers(2, 12), seed=st.integers(0, 2**32), tau=st.sampled_from([0.0, 0.5, 3.0]))
def test_random_effects_are_those_of_a_weighted_regression_on_a_constant(
    k: int, seed: int, tau: float
) -> None:
    rng = np.random.default_rng(seed)
    variances = rng.gamma(2, 0.5, k) + 0.01
    effects = rng.normal(0.3, np.sqrt(variances + tau**2))
    found = random_effects(effects, variances)

    with np.errstate(invalid="ignore"):  # its negative tau2
        wanted = combine_effects(effects, variances, method_re="dl")  # Q and I2 are those of any method
    assert found.q == pytest.approx(wanted.q)
    assert found.i2 == pytest.approx(max(0, wanted.i2))
    # its scale is the mean weighted square: Hartung and Knapp's interval, and Paule and Mandel's definition
    fit = sm.WLS(effects, np.ones(k), weights=1 / (variances + found.tau2)).fit()
    if wanted.q <= k - 1:
        assert found.tau2 == 0
    else:
        assert fit.scale == pytest.approx(1, rel=1e-9)
    assert found.effect == pytest.approx(fit.params[0])
    assert (found.low, found.high) == pytest.approx(tuple(fit.conf_int()[0]))
    assert found.p == pytest.approx(fit.pvalues[0])


def test_equal_effects_have_no_heterogeneity_and_an_interval() -> None:
    found = random_effects(np.array([0.5, 0.5, 0.5]), np.array([1.0, 2.0, 3.0]))
    assert (found.effect, found.q, found.i2, found.tau2) == (0.5, 0, 0, 0)
    assert found.low < 0.5 < found.high
    assert 0 < found.p < 1


def test_the_random_effects_of_a_few_equal_studies_are_calibrated() -> None:
    rng = np.random.default_rng(2)
    for k in (2, 4):
        p = [random_effects(rng.normal(0, 1, k), np.ones(k)).p for _ in range(2000)]
        assert 0.035 < np.mean(np.array(p) < 0.05) < 0.065


def test_effects_of_studies_without_much_variance_have_a_summary() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5_000):
        effects = rng.normal(0, 1, rng.integers(2, 5)) * 10.0 ** rng.integers(-8, 8)
        variances = (np.abs(effects).max() * 10.0 ** rng.integers(-12, -6)) ** 2 * rng.random(len(effects))
        found = random_effects(effects, variances)
        assert found.tau2 == pytest.approx(effects.var(ddof=1), rel=1e-6)
        assert found.effect == pytest.approx(effects.mean(), abs=1e-6 * np.abs(effects).max())


@pytest.mark.parametrize("effects", [[0.3, 0.1 + 0.2], [0.1 + 0.2 - 0.2, 0.1, 0.1], [0.0, 0.0]])
def test_scatter_of_rounding_alone_is_none(effects: list[float]) -> None:
    variances = np.full(len(effects), 0.01)
    found = random_effects(np.array(effects), variances)
    equal = random_effects(np.full(len(effects), effects[0]), variances)
    assert (found.p, found.low, found.high) == pytest.approx((equal.p, equal.low, equal.high), rel=1e-9)
    assert found.p > 0.05


def test_one_cell_more_is_no_other_test() -> None:
    a, b, study = np.array([0.050, 0.051, 0.049]), np.array([0.060, 0.061, 0.059]), np.zeros(3, int)
    noise = np.full(3, 0.055 * 0.945 / 200)
    even = stratified(a, study, b, study, noise, noise)
    other = stratified(a, study, b, study, noise, noise * np.array([1, 1, 200 / 201]))
    assert even.p == pytest.approx(stats.ttest_ind(a, b).pvalue)
    assert other.p == pytest.approx(even.p, rel=0.02)
