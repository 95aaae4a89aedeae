"""Totals of units and groups against pandas over the cells."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insignia_index.kernels.summarise import (
    CELLS,
    FRACTION,
    HITS,
    LARGEST,
    LEAST_MEASURED,
    MEAN,
    SAMPLE_MEAN,
    SAMPLE_MEDIAN,
    SAMPLES,
    SD,
    summarise,
)

N_STUDIES = 3
#: Row of the counts or of the figures by name.
COUNTS = {"n_cells": CELLS, "n_hits": HITS, "n_samples": SAMPLES, "measured": LEAST_MEASURED}
FIGURES = {
    "fraction": FRACTION, "mean": MEAN, "sd": SD, "max": LARGEST,
    "sample_mean": SAMPLE_MEAN, "sample_median": SAMPLE_MEDIAN,
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """Cells (slot, score, is_hit) of slots, of units, of groups."""

    cells: pd.DataFrame
    slot_unit: np.ndarray
    unit_group: np.ndarray
    unit_study: np.ndarray
    unit_is_named: np.ndarray
    measured: np.ndarray
    n_groups: int

    def summarise(self, min_cells: int) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]]]:
        """What the kernel says of groups and of units, by index, in its order."""
        n_slots = len(self.slot_unit)
        slot_cells, slot_hits = np.zeros(n_slots, np.int64), np.zeros(n_slots, np.int64)
        statistics = np.tile([0.0, 0.0, -np.inf], (n_slots, 1))
        for slot, part in self.cells.groupby("slot"):
            slot_cells[slot], slot_hits[slot] = len(part), part["hit"].sum()
            statistics[slot] = part["score"].sum(), (part["score"] ** 2).sum(), part["score"].max()
        groups, counts, figures, units, unit_counts, unit_figures = summarise(
            self.slot_unit, slot_cells, slot_hits, statistics,
            self.unit_group, self.unit_study, self.unit_is_named, self.measured, min_cells, self.n_groups,
        )  # fmt: skip
        return described(groups, counts, figures), described(units, unit_counts, unit_figures)


def described(index: np.ndarray, counts: np.ndarray, figures: np.ndarray) -> dict[int, dict[str, Any]]:
    assert counts.shape[1] == figures.shape[1] == len(index) == len({*index.tolist()})
    found = {}
    for i, one in enumerate(index.tolist()):
        found[one] = {name: int(counts[row, i]) for name, row in COUNTS.items() if row < len(counts)}
        found[one] |= {name: float(figures[row, i]) for name, row in FIGURES.items() if row < len(figures)}
    return found


def wanted(made: Made, min_cells: int) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]]]:
    """The same, of a frame of cells."""
    unit = made.slot_unit[made.cells["slot"]]
    cells = made.cells.assign(unit=unit, group=made.unit_group[unit], study=made.unit_study[unit])
    groups = {}
    for group, part in cells.groupby("group"):
        samples = [
            sample["hit"].mean()
            for one, sample in part.groupby("unit")
            if made.unit_is_named[one] and len(sample) >= min_cells
        ]
        groups[group] = statistics_of(part) | {
            "n_samples": len(samples),
            "measured": made.measured[part["study"]].min(),
            "sample_mean": np.mean(samples) if samples else np.nan,
            "sample_median": np.median(samples) if samples else np.nan,
        }
    order = sorted(groups, key=lambda g: (-groups[g]["fraction"], -groups[g]["n_cells"], g))
    units = {one: statistics_of(part) for one, part in cells.groupby("unit")}
    ranked = sorted(units, key=lambda one: (order.index(made.unit_group[one]), one))
    return {group: groups[group] for group in order}, {one: units[one] for one in ranked}


def statistics_of(cells: pd.DataFrame) -> dict[str, Any]:
    n_cells, n_hits = len(cells), int(cells["hit"].sum())
    return {
        "n_cells": n_cells,
        "n_hits": n_hits,
        "fraction": n_hits / n_cells,
        "mean": cells["score"].mean(),
        "sd": cells["score"].std(ddof=1),
        "max": cells["score"].max(),
    }


def check(made: Made, min_cells: int) -> None:
    for found, expected in zip(made.summarise(min_cells), wanted(made, min_cells), strict=True):
        assert list(found) == list(expected)
        for index, row in found.items():
            for name, value in row.items():
                # no rounding in what ranks groups
                exactly = name in ("fraction", "max") or isinstance(value, int)
                tolerance: dict[str, Any] = {"abs": 0, "rel": 0} if exactly else {"rel": 1e-9, "abs": 1e-7}
                assert value == pytest.approx(expected[index][name], nan_ok=True, **tolerance), (index, name)


@st.composite
def tables(draw: st.DrawFn) -> Made:
    """Few cells and hits, so that groups tie; some slots, units and groups are without cells."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_groups, n_units = draw(st.integers(1, 6)), draw(st.integers(1, 15))
    n_slots = draw(st.integers(1, 25))
    n_cells = draw(st.integers(0, 80))
    hit_share = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    cells = pd.DataFrame(
        {
            "slot": rng.integers(0, n_slots, n_cells) if draw(st.booleans()) else np.zeros(n_cells, np.int64),
            "score": rng.normal(0, 1, n_cells) if draw(st.booleans()) else np.full(n_cells, -0.1),
            "hit": rng.random(n_cells) < hit_share,
        }
    )
    return Made(
        cells,
        slot_unit=rng.integers(0, n_units, n_slots),
        unit_group=rng.integers(0, n_groups, n_units),
        unit_study=rng.integers(0, N_STUDIES, n_units),
        unit_is_named=rng.random(n_units) < draw(st.sampled_from([0.0, 0.7, 1.0])),
        measured=rng.integers(0, 50, N_STUDIES),
        n_groups=n_groups,
    )


@settings(max_examples=120)
@given(made=tables(), min_cells=st.sampled_from([1, 2, 5, 10]))
def test_units_and_groups_add_up_and_rank_as_in_pandas(made: Made, min_cells: int) -> None:
    check(made, min_cells)


def one_unit_a_group(n_cells: list[int], n_hits: list[int]) -> Made:
    rows = [(i, 1.0, j < h) for i, (n, h) in enumerate(zip(n_cells, n_hits, strict=True)) for j in range(n)]
    cells = pd.DataFrame(rows, columns=["slot", "score", "hit"])
    n = np.arange(len(n_cells))
    return Made(cells, n, n, np.zeros_like(n), np.ones(len(n), bool), np.array([4]), len(n))


def test_groups_rank_by_hit_fraction_then_cells_then_index() -> None:
    made = one_unit_a_group([2, 4, 0, 4, 3, 4, 3], [1, 2, 0, 2, 0, 4, 0])
    groups, units = made.summarise(1)
    assert list(groups) == list(units) == [5, 1, 3, 0, 4, 6]
    check(made, 1)


def test_units_keep_their_order_within_a_group_however_many_hits_they_have() -> None:
    made = one_unit_a_group([2, 2, 2, 2], [0, 2, 1, 2])
    made = Made(
        made.cells, made.slot_unit, np.array([1, 0, 1, 0]), made.unit_study, made.unit_is_named,
        made.measured, 2,
    )  # fmt: skip
    groups, units = made.summarise(1)
    assert list(groups) == [0, 1]
    assert list(units) == [1, 3, 0, 2]


def test_a_cell_alone_has_no_standard_deviation_and_equal_cells_have_none_to_speak_of() -> None:
    groups, units = one_unit_a_group([1, 3], [0, 0]).summarise(1)
    assert np.isnan(groups[0]["sd"])
    assert np.isnan(units[0]["sd"])
    assert groups[1]["sd"] == units[1]["sd"] == 0.0
    # the sum of squares of equal scores may come out below that of their mean
    for score in np.random.default_rng(0).lognormal(0, 3, 200):
        made = one_unit_a_group([7], [0])
        made.cells["score"] = score
        assert made.summarise(1)[0][0]["sd"] <= 1e-6 * score


def test_small_and_nameless_samples_are_no_replicates() -> None:
    made = one_unit_a_group([4, 4, 3, 4], [4, 1, 3, 0])
    made = Made(
        made.cells, made.slot_unit, np.zeros(4, np.int64), made.unit_study,
        np.array([False, True, True, True]), made.measured, 1,
    )  # fmt: skip
    found = [made.summarise(min_cells)[0][0] for min_cells in (3, 4, 5)]
    assert [row["n_samples"] for row in found] == [3, 2, 0]
    assert [row["sample_median"] for row in found[:2]] == [0.25, 0.125]
    assert [row["sample_mean"] for row in found[:2]] == [pytest.approx(1.25 / 3), 0.125]
    assert np.isnan([found[2]["sample_mean"], found[2]["sample_median"]]).all()
    assert {row["n_hits"] for row in found} == {8}


def test_nothing_comes_of_no_cells() -> None:
    assert one_unit_a_group([0, 0], [0, 0]).summarise(1) == ({}, {})
    assert one_unit_a_group([], []).summarise(1) == ({}, {})
