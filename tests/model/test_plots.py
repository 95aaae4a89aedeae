"""Pictures of scores, genes and screens: what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from insignia_model import Column, ScoreChunk, Scores, Table
from insignia_model.errors import InvalidArgument
from insignia_model.plot import gene_contributions, score_distribution, screen_heatmap
from insignia_model.plot.distribution import _hits
from insignia_model.plot.genes import contribution_matrix
from insignia_model.plot.order import alike_together

pytest.importorskip("matplotlib")

VALUES = np.concatenate([np.zeros(50), np.linspace(0, 1, 50)]).astype(np.float32)
SCORES = Scores((ScoreChunk("a", np.arange(50), VALUES[:50]), ScoreChunk("b", np.arange(50), VALUES[50:])))


def labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize(
    ("rule", "n_hits"),
    [("percentile:90", 10), ("quantile:0.9", 10), ("value:0.5", 25), ("top:7", 7), (0.5, 25)],
)
def test_hits_are_those_of_the_rule(rule: Any, n_hits: int) -> None:
    limit, is_hit = _hits(VALUES.astype(np.float64), rule)
    assert (is_hit.sum(), limit is not None) == (n_hits, True)
    assert f"{n_hits} hits" in SCORES.plot(cutoff=rule).axes[0].texts[0].get_text()


def test_the_zscore_rule_is_of_these_scores() -> None:
    limit, _ = _hits(VALUES.astype(np.float64), "zscore:1")
    assert limit == pytest.approx(VALUES.mean(dtype=float) + VALUES.std(dtype=float))


def test_scores_by_study_are_rows_highest_share_of_hits_first(tmp_path: Path) -> None:
    figure = SCORES.plot(cutoff="value:0.5", by="study", path=tmp_path / "x.svg")
    assert labels(figure.axes[0].yaxis) == ["b  (n = 50)", "a  (n = 50)"]
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")
    many = score_distribution(SCORES, by=[f"$g{i % 60}" for i in range(100)], max_groups=50)
    assert len(labels(many.axes[0].yaxis)) == 50
    assert "not shown: 10 groups" in many.axes[0].get_xlabel()


def test_scores_that_cannot_be_drawn_are_refused() -> None:
    for wrong in ({"by": "tissue"}, {"by": ["a"]}, {"max_groups": 0}, {"cutoff": "most"}):
        with pytest.raises(InvalidArgument):
            SCORES.plot(**wrong)
    with pytest.raises(InvalidArgument, match="no cell"):
        Scores(()).plot()


def gene_table(n_groups: int, n_genes: int, signed: bool = False) -> Table:
    rng = np.random.default_rng(0)
    n = n_groups * n_genes
    values = rng.normal(size=n) if signed else rng.gamma(1, 1, n)
    return Table(
        {
            "tissue": Column.text([f"tissue {i // n_genes}" for i in range(n)]),
            "gene": Column.text([f"G{i % n_genes}" for i in range(n)]),
            "weight": Column.numbers(np.ones(n)),
            "contribution": Column.numbers(values),
            "share": Column.numbers(np.zeros(n)),
        }
    )


@pytest.mark.parametrize("signed", [False, True])
def test_the_parts_of_a_bar_are_the_mean_score(signed: bool) -> None:
    table = gene_table(60, 30, signed)
    groups, _, matrix = contribution_matrix(table)
    ax = gene_contributions(table).axes[0]
    assert "not shown: 10 groups" in ax.get_xlabel()
    means = dict(zip(groups, matrix.sum(axis=1), strict=True))
    shown = labels(ax.yaxis)
    assert shown == sorted(means, key=lambda g: -means[g])[:50]
    widths = np.zeros(50)
    for container in ax.containers:
        widths += [bar.get_width() for bar in container]
    np.testing.assert_allclose(widths, [means[g] for g in shown])
    assert [t.get_text() for t in ax.get_legend().get_texts()][-1] == "22 other genes"


def test_genes_that_cannot_be_drawn_are_refused() -> None:
    for wrong in ({"max_genes": 0}, {"max_genes": 99}, {"max_groups": 0}):
        with pytest.raises(InvalidArgument):
            gene_contributions(gene_table(2, 3), **wrong)
    for table in (Table({}), Table({"gene": Column.text(["A"])})):
        with pytest.raises(InvalidArgument, match="table"):
            gene_contributions(table)


def screen_table(n_signatures: int, n_groups: int) -> Table:
    rows = [(s, g) for s in range(n_signatures) for g in range(n_groups)]
    mean = np.array([float(s * (g % 3)) for s, g in rows])
    mean[1] = np.nan  # a signature without a score in a group
    return Table(
        {
            "signature": Column.text([f"S{s}" for s, _ in rows]),
            "tissue": Column.text([f"t{g}" for _, g in rows]),
            "n_cells": Column.integers([10] * len(rows)),
            "hit_fraction": Column.numbers(np.array([s / n_signatures for s, _ in rows])),
            "mean": Column.numbers(mean),
            "null_z": Column.numbers(mean - 5),
        }
    )


@pytest.mark.parametrize("value", ["mean", "hit_fraction", "null_z"])
@pytest.mark.parametrize("as_frame", [False, True])
def test_the_strongest_signatures_are_shown(value: str, as_frame: bool) -> None:
    table = screen_table(20, 5)
    ax = screen_heatmap(table.to_frame() if as_frame else table, value, max_signatures=6).axes[0]
    assert set(labels(ax.yaxis)) == {f"S{s}" for s in range(14, 20)}
    assert set(labels(ax.xaxis)) == {f"t{g}" for g in range(5)}
    assert "not shown: 14 weaker signatures" in ax.get_xlabel()


def test_a_cell_of_the_heat_map_is_the_figure_of_its_row_and_column() -> None:
    ax = screen_heatmap(screen_table(4, 3), "hit_fraction").axes[0]
    image = ax.images[0].get_array()
    for row, name in enumerate(labels(ax.yaxis)):
        assert image[row].tolist() == [100 * int(name[1:]) / 4] * 3


def test_the_means_of_one_group_are_drawn_as_they_are() -> None:
    figure = screen_heatmap(screen_table(4, 1), "mean")
    ax, bar = figure.axes
    assert "mean score" in (bar.get_xlabel(), bar.get_ylabel())
    drawn = dict(zip(labels(ax.yaxis), ax.images[0].get_array()[:, 0].tolist(), strict=True))
    assert drawn == {f"S{s}": 0.0 for s in (0, 2, 3)}  # S1 has no score
    with_na = screen_table(4, 3).to_frame().convert_dtypes()
    assert with_na["mean"].isna().any()
    assert screen_heatmap(with_na, "null_z").axes[0].images[0].get_array().shape == (4, 3)


def test_rows_of_many_zeros_show_the_rest(tmp_path: Path) -> None:
    values = np.concatenate([np.zeros(10_000), np.linspace(0.1, 1, 200)]).astype(np.float32)
    scores = Scores((ScoreChunk("a", np.arange(len(values)), values),))
    labelled = [None if i % 2 else pd.NA for i in range(len(values))]
    for by in ("study", labelled):
        ax = scores.plot(cutoff=np.float32(0.5), by=by, path=tmp_path / "x.png").axes[0]
        heights = np.concatenate([patch.get_data().values for patch in ax.patches])
        assert np.unique(np.round(heights.astype(float), 3)).size > 2
        tops = sorted({round(float(v), 4) for v in ax.patches[0].get_data().values if v < 0})
        assert tops[0] == pytest.approx(-0.85)
        assert tops[1] < -0.3  # not a hair over the line
        assert "bars of many cells of one score are cut" in ax.get_xlabel()
    assert labels(ax.yaxis) == ["missing  (n = 10,200)"]
    assert "(0.5)" not in ax.texts[0].get_text()


def test_a_screen_that_cannot_be_drawn_is_refused() -> None:
    for wrong in ({"value": "p"}, {"group_by": "sex"}, {"max_groups": 0}):
        with pytest.raises(InvalidArgument):
            screen_heatmap(screen_table(2, 2), **wrong)
    with pytest.raises(InvalidArgument, match="screen"):
        screen_heatmap(Table({}))


@given(arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.floats(-9, 9)))
def test_an_order_has_every_row_once(matrix: np.ndarray) -> None:
    assert sorted(alike_together(matrix)) == list(range(len(matrix)))


def test_rows_that_are_alike_stand_together() -> None:
    rng = np.random.default_rng(1)
    kinds = rng.permutation(np.repeat(np.arange(4), 5))
    order = alike_together(np.eye(4)[kinds] * 10 + rng.normal(size=(20, 4)) * 0.1)
    assert np.count_nonzero(np.diff(kinds[order])) == 3


def test_a_figure_can_be_pickled() -> None:
    import pickle

    from insignia_model.plot.style import new_figure

    again = pickle.loads(pickle.dumps(new_figure(3, 2)))
    assert again._repr_png_()[:4] == b"\x89PNG"
