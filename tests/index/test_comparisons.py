"""Tests of an answer equal those that pandas, scipy and statsmodels make of the scores of all cells."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from insignia_index import Atlas, HitRule
from insignia_model import Condition
from insignia_model.errors import InvalidArgument, UnknownField

from .made import Study, blocks_of, build, study
from .oracle import Oracle, hits
from .weighted_fit import weighted

GENES = ["G0", "G3", "G7"]
MEASURES = ("hit_fraction", "mean")


def made_study(name: str, diseases: str, *, seed: int) -> Study:
    """Samples of 30 cells, one a letter of ``diseases`` (- is missing); cell types within each of them."""
    n = len(diseases) * 30
    rng = np.random.default_rng(seed)
    names = {"l": "lupus", "n": "normal", "-": None}
    of_sample = np.repeat(np.arange(len(diseases)), 30)
    made = study(
        name,
        n,
        sample=[None if s == 2 and i % 30 > 25 else f"s{s}" for i, s in enumerate(of_sample)],
        disease=[names[diseases[s]] for s in of_sample],
        cell_type=[("B", "T", "NK:CD56", None)[k] for k in rng.choice(4, n, p=[0.4, 0.35, 0.15, 0.1])],
        batch=pd.array([int(s % 2) if s % 5 else None for s in of_sample], dtype="Int64"),
        dose=[0.1 if s % 2 else 2.5 for s in of_sample],
        seed=seed,
    )
    level = rng.gamma(4, 0.25, len(diseases))[of_sample]
    return made.with_(values=(made.values * level[:, None]).astype(np.float32))


STUDIES = [
    made_study("a", "llllnnnn", seed=1),
    made_study("b", "lnnnl-", seed=2),
    made_study("c", "nnn", seed=3),
    made_study("d", "lllnnnnl", seed=4),
]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    with blocks_of(64):
        path = build(tmp_path_factory.mktemp("tests"), STUDIES)
    with Atlas.open(path, threads=2) as opened:
        yield opened


def cells_of(atlas: Atlas, rule: HitRule, where: tuple[Condition, ...] = ()) -> pd.DataFrame:
    """Cells that pass, with their scores and whether they are hits."""
    oracle = Oracle(STUDIES)
    cells = oracle.cells.assign(score=atlas.scores(GENES).values.astype(np.float64))[oracle.passes(where)]
    result = atlas.search(GENES, hits=rule, where=where)
    return cells.assign(hit=hits(cells["score"].to_numpy(), rule, result.cutoff).astype(float))


def values_of(cells: pd.DataFrame, min_cells: int) -> pd.DataFrame:
    """Hit fraction and mean of every sample that has enough cells, by (study, sample)."""
    named = cells[cells["sample"].notna()]
    found = named.groupby(["study", "sample"]).agg(
        n=("score", "size"), hit_fraction=("hit", "mean"), mean=("score", "mean"), variance=("score", "var")
    )
    return found[found["n"] >= min_cells]


def noise(frame: pd.DataFrame, measure: str) -> pd.Series:
    """Variance of the samples' values by counting cells: of a cell in the mean sample's study, over n."""
    counts = frame["n"] if measure == "hit_fraction" else frame["n"] - 1
    totals = counts * frame["hit_fraction" if measure == "hit_fraction" else "variance"]
    sums, sizes = (column.groupby(frame["study"]).transform("sum") for column in (totals, counts))
    quotient = sums / sizes
    return (quotient * (1 - quotient) if measure == "hit_fraction" else quotient).mean() / frame["n"]


def check(row: dict[str, Any], a: pd.DataFrame, b: pd.DataFrame) -> None:
    """A row against statsmodels and scipy on the samples of both sides."""
    assert row["reason"] is None
    both = a.index.intersection(b.index)
    if len(both):
        a, b = a.loc[both], b.loc[both]
        wanted = stats.ttest_rel(a[row["measure"]], b[row["measure"]])
        assert row["design"] == "paired"
        low, high = wanted.confidence_interval()
        found = (wanted.statistic, wanted.df, wanted.pvalue, low, high)
        effect = (a[row["measure"]] - b[row["measure"]]).mean()
    else:
        shared = set(a.index.get_level_values(0)) & set(b.index.get_level_values(0))
        a, b = (side[side.index.get_level_values(0).isin(shared)] for side in (a, b))
        frame = pd.concat([a.assign(side=1.0), b.assign(side=0.0)]).reset_index()
        frame["y"] = frame[row["measure"]]
        frame["noise"] = noise(frame, row["measure"])
        fit = weighted("y ~ C(study) + side" if len(shared) > 1 else "y ~ side", frame)
        assert row["design"] == ("stratified" if len(shared) > 1 else "unpaired")
        found = fit.tvalues["side"], fit.df_resid, fit.pvalues["side"], *fit.conf_int().loc["side"]
        effect = fit.params["side"]
    assert (row["n_samples"], row["n_reference"]) == (len(a), len(b))
    assert row["n_studies"] == a.index.get_level_values(0).nunique()
    assert row["mean_value"] == pytest.approx(a[row["measure"]].mean())
    assert row["mean_reference"] == pytest.approx(b[row["measure"]].mean())
    assert row["effect"] == pytest.approx(effect, rel=1e-5, abs=1e-9)
    given = [row[name] for name in ("t", "df", "p", "effect_low", "effect_high")]
    assert given == pytest.approx(list(found), rel=1e-4, abs=1e-8)
    assert np.sign(row["hedges_g"]) == np.sign(effect)


RULES = [HitRule(), HitRule.percentile(60), HitRule.top(200), HitRule.zscore(0.3)]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("where", [(), (Condition("cell_type", "in", ("B", "T")),)], ids=["all", "B and T"])
@pytest.mark.parametrize("group_by", [("study",), ("disease",), ("cell_type", "disease")], ids=str)
def test_a_contrast_compares_samples_within_studies_whatever_the_groups(
    atlas: Atlas, rule: HitRule, where: tuple[Condition, ...], group_by: tuple[str, ...]
) -> None:
    cells = cells_of(atlas, rule, where)
    result = atlas.search(
        GENES, hits=rule, where=where, group_by=group_by, contrasts=["disease=lupus:normal"], min_cells=8
    )
    rows = list(result.test_table.rows())
    assert [(row["contrast"], row["measure"]) for row in rows] == [
        ("disease=lupus:normal", m) for m in MEASURES
    ]
    sides = [values_of(cells[cells["disease"] == d], 8) for d in ("lupus", "normal")]
    for row in rows:
        check(row, *sides)
        assert row["random_n_studies"] == 2  # the others have fewer than 3 of one kind
        assert row["random_low"] < row["random_effect"] < row["random_high"]
    assert [row["fdr"] for row in rows] == pytest.approx(
        stats.false_discovery_control([r["p"] for r in rows])
    )


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_group_that_every_sample_has_is_compared_with_the_same_samples_rest(
    atlas: Atlas, rule: HitRule
) -> None:
    cells = cells_of(atlas, rule)
    result = atlas.search(GENES, hits=rule, group_by="cell_type", compare=True, min_cells=5)
    rows = list(result.test_table.rows())
    order = [value for value in result.group_table["cell_type"].to_list() for _ in MEASURES]
    assert [row["cell_type"] for row in rows] == order
    known = cells[cells["cell_type"].notna()]
    for row in rows:
        if row["cell_type"] is None:
            assert "cell_type=(missing)" in row["reason"]
            continue
        inside = known["cell_type"] == row["cell_type"]
        check(row, values_of(known[inside], 5), values_of(known[~inside], 5))


def test_groups_of_whole_samples_are_compared_within_studies(atlas: Atlas) -> None:
    cells = cells_of(atlas, HitRule())
    known = cells[cells["disease"].notna()]
    for row in atlas.search(GENES, group_by="disease", compare=True).test_table.rows():
        if row["disease"] is not None:
            inside = known["disease"] == row["disease"]
            check(row, values_of(known[inside], 10), values_of(known[~inside], 10))


def test_contrasts_of_numbers_of_text_with_a_colon_and_of_cell_types(atlas: Atlas) -> None:
    cells = cells_of(atlas, HitRule())
    asked = ["batch=1:0", "dose=2.5:0.1", 'cell_type="NK:CD56":T']
    rows = list(atlas.search(GENES, contrasts=asked, min_cells=2).test_table.rows())
    sides = [("batch", 1, 0), ("dose", 2.5, 0.1), ("cell_type", "NK:CD56", "T")]
    for i, (field, value, reference) in enumerate(sides):
        for row in rows[2 * i : 2 * i + 2]:
            assert row["contrast"] == asked[i]
            check(row, *(values_of(cells[cells[field] == v], 2) for v in (value, reference)))


def test_what_cannot_be_told_apart_has_a_reason(atlas: Atlas) -> None:
    groups = atlas.search(GENES, group_by="study", compare=True).test_table
    assert all("studies that have both sides" in reason for reason in groups["reason"].to_list())
    table = atlas.search(GENES, contrasts="disease=sepsis:normal").test_table
    assert (
        table["reason"].to_list()[0].startswith("14 samples: 0 with disease=sepsis, 14 with disease=normal;")
    )
    assert table["p"].to_list() == table["fdr"].to_list() == [None, None]
    nothing = atlas.search(GENES, where={"study": "none"}, group_by="disease", compare=True,
                           contrasts="disease=lupus:normal").test_table  # fmt: skip
    assert (
        nothing["reason"].to_list()
        == ["0 samples: 0 with disease=lupus, 0 with disease=normal; at least 3 on each side are needed"] * 2
    )


def test_more_replicates_can_be_asked_for(atlas: Atlas) -> None:
    (row, _) = atlas.search(GENES, contrasts="disease=lupus:normal", min_samples=11).test_table.rows()
    assert row["reason"] == (
        "24 samples: 10 with disease=lupus, 14 with disease=normal; at least 11 on each side are needed"
    )


def test_the_rest_of_the_answer_does_not_depend_on_tests(atlas: Atlas) -> None:
    plain = atlas.search(GENES, group_by="cell_type")
    tested = atlas.search(GENES, group_by="cell_type", compare=True, contrasts=["disease=lupus:normal"])
    for name in ("cell_table", "group_table", "sample_table"):
        pd.testing.assert_frame_equal(getattr(plain, name).to_frame(), getattr(tested, name).to_frame())
    assert not plain.test_table.columns
    assert "tests" not in plain.to_dict()
    assert plain.to_dict().keys() == tested.to_dict().keys() - {"tests"}
    assert tested.to_dict()["tests"][0]["group"] == {"cell_type": tested.groups["cell_type"][0]}
    assert tested.to_dict()["tests"][-1]["group"] is None
    assert len(tested.tests) == len(tested.test_table)


def test_questions_without_sense_are_refused(atlas: Atlas) -> None:
    with pytest.raises(UnknownField):
        atlas.search(GENES, contrasts="no field=a:b")
    for question in (
        {"compare": True, "group_by": ()},
        {"contrasts": ["disease=a:b", "disease=a:b"]},
        {"contrasts": "disease=a"},
        {"contrasts": "disease=a:a"},
        {"min_samples": 1},
    ):
        with pytest.raises(InvalidArgument):
            atlas.search(GENES, **question)
    with pytest.raises(InvalidArgument, match="a number"):
        atlas.search(GENES, contrasts="dose=high:low")


def test_too_many_groups_are_refused(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insignia_index.search.comparisons.MOST_GROUPS", 2)
    with pytest.raises(InvalidArgument, match="more than 2"):
        atlas.search(GENES, group_by="cell_type", compare=True)


def test_one_field_grouped_or_not_gives_the_same_contrast(tmp_path: Path) -> None:
    """The scores of the search are summed again by the field: to the same sums and hits, ties included."""
    same = [made_study(name, "lllnnn", seed=9).with_(values=np.ones((180, 12), np.float32)) for name in "ab"]
    rng = np.random.default_rng(0)
    same = [s.with_(values=np.where(rng.random(s.values.shape) < 0.5, s.values, 0)) for s in same]
    with Atlas.open(build(tmp_path, same)) as atlas:
        for top in (1, 50, 100, 359, 360):
            found = [
                atlas.search(GENES, hits=f"top:{top}", group_by=group_by, contrasts="disease=lupus:normal")
                for group_by in ("disease", ("cell_type", "disease"))
            ]
            pd.testing.assert_frame_equal(found[0].tests, found[1].tests, rtol=1e-9)
