"""The figure: which groups and samples it shows, in which order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insignia_model import Column, GeneReport, SearchResult, Table
from insignia_model.errors import InvalidArgument, MissingExtra
from insignia_model.plot import replicated_groups

pytest.importorskip("matplotlib")


def result(samples: list[tuple[str | None, int, float]], **changes: Any) -> SearchResult:
    table = Table(
        {
            "tissue": Column.text([group for group, _, _ in samples]),
            "sample": Column.text([f"s{n}" for n in range(len(samples))]),
            "n_cells": Column.integers([n for _, n, _ in samples]),
            "hit_fraction": Column.numbers([f for _, _, f in samples]),
        }
    )
    values: dict[str, Any] = {
        "engine": "sparse",
        "aggregate": "mean",
        "hits": "percentile:95",
        "n_cells": 100,
        "n_hits": 5,
        "cutoff": 1.0,
        "elapsed_ms": 1.0,
        "genes": GeneReport({}),
        "group_by": ("tissue",),
        "cell_table": Table({}),
        "group_table": Table({}),
        "sample_table": table,
        "min_cells": 10,
    }
    return SearchResult(**values | changes)


SAMPLES = [
    ("low", 50, 0.01),
    ("low", 50, 0.02),
    ("high", 50, 0.4),
    ("high", 10, 0.5),
    ("high", 9, 0.0),  # no replicate
    ("few", 9, 0.9),
    (None, 50, 0.1),
]


def labels(figure: Any) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_groups_come_by_median_and_only_with_samples_that_are_replicates() -> None:
    groups, n_without = replicated_groups(result(SAMPLES))
    assert [(g.name, g.fractions.tolist()) for g in groups] == [
        ("high", [0.4, 0.5]),
        ("missing", [0.1]),
        ("low", [0.01, 0.02]),
    ]
    assert n_without == 1
    assert replicated_groups(result(SAMPLES, min_cells=9))[0][0].name == "few"


def test_the_labels_count_the_samples_and_the_axis_tells_what_is_left_out() -> None:
    figure = result(SAMPLES).plot(max_groups=2)
    assert labels(figure) == ["high  (n = 2)", "missing  (n = 1)"]
    shown = figure.axes[0].get_xlabel()
    assert "1 group of lower median, 1 group without a sample of 10 cells" in shown


def test_a_box_needs_three_samples_a_median_one() -> None:
    two = result([("a", 50, 0.1), ("a", 50, 0.2), ("b", 50, 0.3)]).plot().axes[0]
    three = result([("a", 50, 0.1), ("a", 50, 0.2), ("a", 50, 0.3)]).plot().axes[0]
    assert (len(two.patches), len(three.patches)) == (0, 1)
    assert [len(ax.collections[0].get_segments()) for ax in (two, three)] == [2, 1]


def test_without_groups_all_cells_are_one() -> None:
    figure = result(SAMPLES, group_by=()).plot()
    assert labels(figure) == ["all cells  (n = 5)"]


def test_groups_of_several_fields_have_their_values_as_names() -> None:
    figure = result(SAMPLES[:1], group_by=("tissue", "sample")).plot()
    assert labels(figure) == ["low · s0  (n = 1)"]


def test_the_same_result_gives_the_same_points() -> None:
    first, second = (result(SAMPLES).plot().axes[0].collections for _ in range(2))
    for one, other in zip(first[1:], second[1:], strict=True):
        np.testing.assert_array_equal(one.get_offsets(), other.get_offsets())


def test_a_name_with_a_dollar_is_no_formula(tmp_path: Path) -> None:
    samples = [("$\\frac{", 50, 0.1), ("cost $5 or $6", 50, 0.2)]
    result(samples, signature="$x_$").plot(path=tmp_path / "x.svg")
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")


def test_it_draws_into_given_axes_and_leaves_pyplot_alone(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert result(SAMPLES).plot(ax=right) is figure
    assert not left.get_title(loc="left")
    assert right.get_title(loc="left") == "signature"
    assert "matplotlib.pyplot" not in fresh_modules()


def fresh_modules() -> str:
    code = (
        "import sys; from matplotlib.figure import Figure; import insignia_model.plot.style as p;"
        "p.new_figure(4, 3); print(*sys.modules)"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_a_notebook_shows_the_figure() -> None:
    assert result(SAMPLES).plot()._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_nothing_to_draw_is_said() -> None:
    for samples in ([], [("few", 9, 0.9)]):
        with pytest.raises(InvalidArgument, match="no sample has 10 cells"):
            result(samples).plot()
    with pytest.raises(InvalidArgument, match="max_groups"):
        result(SAMPLES).plot(max_groups=0)


def test_a_file_of_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"\.png"):
        result(SAMPLES).plot(path=tmp_path / "x.doc")


def test_without_matplotlib_the_extra_is_named(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"insignia\[plot\]"):
        result(SAMPLES).plot()
