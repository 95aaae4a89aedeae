"""Rows of cells, their heads, projections and inner products, against numpy."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insignia_index import Atlas
from insignia_index.dense.rows import Rows, write_rows
from insignia_index.kernels.row_scores import add_level, hints_of, score_narrow, score_wide
from insignia_index.kernels.rows import HEAD, LEVEL_ENDS
from insignia_index.snapshot import Snapshot
from insignia_model.errors import AtlasCorrupt

from .. import strategies
from ..made import blocks_of, build, study

ROOM = 1 << 16


def rows_of(folder: Path, snapshot: Snapshot) -> list[Rows]:
    """Rows of every study, written anew."""
    found = []
    for i, shard in enumerate(snapshot.shards):
        snapshot.check_study(i)
        path = folder / f"{i}.rows"
        write_rows(path, shard)
        found.append(Rows(path, path.stat().st_size, shard.n_cells))
    return found


def stored(atlas: Atlas) -> np.ndarray:
    """All attributions as the atlas holds them (n_cells, n_genes)."""
    snapshot = atlas._session.snapshot
    studies = np.repeat(np.arange(len(snapshot.studies)), np.diff(snapshot.study_starts))
    rows = np.concatenate([np.arange(study.n_cells) for study in snapshot.studies])
    names = snapshot.cell_names(studies, rows)
    ids = [(snapshot.studies[s].study, name) for s, name in zip(studies.tolist(), names, strict=True)]
    return atlas.profiles(ids)[1]


@settings(max_examples=30)
@given(data=st.data())
def test_rows_hold_what_the_shards_hold(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = data.draw(strategies.studies())
    value_dtype = data.draw(st.sampled_from(["float16", "float32"]))
    folder = tmp_path_factory.mktemp("rows")
    with blocks_of(data.draw(st.sampled_from([8, 33, 65_536]))):
        path = build(folder, made, value_dtype=value_dtype)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    with Atlas.open(path) as atlas:
        snapshot = atlas._session.snapshot
        expected, first = stored(atlas), 0
        every = rows_of(folder, snapshot)
        components = rng.standard_normal((expected.shape[1], 5)).astype(np.float32)
        for rows in every:
            here = expected[first : first + rows.n_cells]
            dense = np.zeros_like(here)
            for cell in range(rows.n_cells):
                genes, values = rows.profile(cell)
                assert np.all(np.diff(genes) > 0)
                dense[cell, genes] = values
            # far below the largest value of a cell a narrow row has a fixed step
            largest = np.abs(here).max(axis=1, initial=0)[:, None]
            assert (np.abs(dense - here) <= 2.0**-38 * largest + 1e-37).all()
            assert rows.wide == (value_dtype == "float32")
            np.testing.assert_array_equal(
                rows.matrix(np.arange(rows.n_cells)).toarray(), dense[:, : rows.n_genes]
            )
            some = rng.permutation(rows.n_cells)
            projections, squares = rows.project(components, some)
            double = dense[some].astype(np.float64)
            scale = np.abs(double) @ np.abs(components) + 1e-30
            assert (np.abs(projections - double @ components) <= 1e-4 * scale).all()
            np.testing.assert_allclose(squares, np.square(double).sum(axis=1), rtol=1e-6)
            first += rows.n_cells
        check_scores(rng, snapshot, every, expected)


def check_scores(
    rng: np.random.Generator, snapshot: Snapshot, every: list[Rows], expected: np.ndarray
) -> None:
    tables = np.stack([rows.table for rows in every])
    starts = snapshot.study_starts
    hints = hints_of(starts)
    some = rng.integers(0, snapshot.n_cells, 50)
    weights = np.zeros(ROOM)
    weights[: expected.shape[1]] = rng.standard_normal(expected.shape[1])
    double = expected[some].astype(np.float64) * weights[: expected.shape[1]]
    scale = np.abs(double).sum(axis=1) + 1e-30
    if every[0].wide:
        scores = np.empty(len(some))
        score_wide(tables, starts, hints, some, weights, scores)
        assert (np.abs(scores - double.sum(axis=1)) <= 1e-9 * scale).all()
        return
    narrow = np.empty(len(some), np.float32)
    score_narrow(tables, starts, hints, some, weights.astype(np.float32), narrow)
    assert (np.abs(narrow - double.sum(axis=1)) <= 1e-5 * scale).all()


def test_the_levels_of_a_head_hold_the_largest_values_and_are_added_alone(tmp_path: Path) -> None:
    made = study("A", 30, 700, density=0.8, signed=True)
    for cell, n_values in enumerate((0, 1, 30, 40, 41, 127, 129, 255, 256, 257)):
        made.values[cell, n_values:] = 0  # fewer than a head or a level
        made.values[cell, :n_values] = np.where(
            made.values[cell, :n_values] == 0, 1.5, made.values[cell, :n_values]
        )
    made.values[15] = np.where(made.values[15] != 0, 2.0, 0)  # all tie
    made.values[16] = np.where(made.values[16] > 0, 2.0, made.values[16].clip(-1.0))  # many do
    with Atlas.open(build(tmp_path, [made])) as atlas:
        snapshot = atlas._session.snapshot
        (rows,) = rows_of(tmp_path, snapshot)
        values = stored(atlas)
        weights = np.zeros(ROOM, np.float32)
        weights[: values.shape[1]] = np.random.default_rng(0).standard_normal(values.shape[1])
        assert LEVEL_ENDS[-1] == HEAD
        for level, end in enumerate(LEVEL_ENDS):
            of_level = np.zeros_like(values)
            for cell, row in enumerate(values):
                # of equal magnitude, those of the first genes
                first = np.lexsort((np.arange(len(row)), -np.abs(row)))
                first = first[LEVEL_ENDS[level - 1] if level else 0 : end]
                of_level[cell, first] = row[first]
            scores = np.full(30, 7.0, np.float32)
            starts = snapshot.study_starts
            add_level(rows.table[None], starts, hints_of(starts), np.arange(30), 30, level, weights, scores)
            np.testing.assert_allclose(
                scores, 7 + of_level @ weights[: values.shape[1]], rtol=1e-4, atol=1e-3
            )


@pytest.mark.parametrize("cut", ["head", "tail", "mark", "starts"])
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, cut: str) -> None:
    with Atlas.open(build(tmp_path, [study("A", 20, 300, density=0.9)])) as atlas:
        rows_of(tmp_path, atlas._session.snapshot)
    path = tmp_path / "0.rows"
    raw = bytearray(path.read_bytes())
    if cut == "head":
        raw = raw[:10]
    elif cut == "tail":
        raw = raw[:-1]
    elif cut == "mark":
        raw[0] ^= 1
    else:
        at = len(raw) - 20 - 8 * 21
        raw[at + 8 : at + 16] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(raw)
    with pytest.raises(AtlasCorrupt, match=r"0\.rows"):
        Rows(path, len(raw), 20)
