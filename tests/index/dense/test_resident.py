"""Candidates and panels, under any filter."""

import os
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insignia_index.dense.codec import Codec
from insignia_index.dense.index import flat_index, lists_for, train_lists
from insignia_index.dense.resident import Panel, Part, Projected
from insignia_model.errors import AtlasCorrupt

N_GENES, D = 60, 8
CLOSE = 0.15  # with lists a projection has 8 bits a dimension


def made_codec(seed: int = 0) -> Codec:
    """Orthonormal columns."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((N_GENES, D)))
    return Codec.of(q.astype(np.float32), 0.5)


def projected(folder: Path, sizes: list[int], lists: int, seed: int = 1) -> tuple[Projected, np.ndarray]:
    """Studies of such sizes with random projections, and those projections, as float16 holds them."""
    codec, rng = made_codec(), np.random.default_rng(seed)
    values = rng.standard_normal((sum(sizes), D)).astype(np.float32)
    template = None
    if lists:
        template = folder / "lists.index"
        faiss.write_index(train_lists(values * 0.5, lists), str(template))
    parts, first = [], 0
    for i, n in enumerate(sizes):
        path = folder / f"{i}.index"
        index = faiss.read_index(str(template)) if template and n >= 200 else flat_index(D)
        index.add(values[first : first + n] * np.float32(0.5))
        faiss.write_index(index, str(path))
        parts.append(Part(path, first, n))
        first += n
    return Projected(codec, template, parts), values.astype(np.float16).astype(np.float32)


@pytest.mark.parametrize("lists", [0, 4])
def test_all_cells_come_back_where_all_are_asked_for(tmp_path: Path, lists: int) -> None:
    index, values = projected(tmp_path, [300, 5, 1, 250], lists)
    query = np.random.default_rng(5).standard_normal(D).astype(np.float32)
    rows, scores = index.candidates(query, 10_000)
    assert sorted(rows.tolist()) == list(range(556))
    np.testing.assert_allclose(scores, values[rows] @ query, atol=CLOSE)


@settings(max_examples=60)
@given(data=st.data())
def test_a_filter_is_honoured_and_the_best_that_pass_are_found(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lists = data.draw(st.sampled_from([0, 1, 4]))
    sizes = data.draw(st.lists(st.sampled_from([1, 7, 200, 3000]), min_size=1, max_size=4))
    sizes.append(400)  # enough to train lists
    index, values = projected(tmp_path_factory.mktemp("resident"), sizes, lists)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    passing = rng.random(sum(sizes)) < data.draw(st.sampled_from([0.0, 0.01, 0.3, 0.95, 1.0]))
    n = data.draw(st.sampled_from([1, 10, 100, 1000, 100_000]))
    query = rng.standard_normal(D).astype(np.float32)
    n_passing = int(passing.sum())
    rows, scores = index.candidates(query, n, passing, n_passing)
    assert passing[rows].all()
    assert len(np.unique(rows)) == len(rows) == len(scores)
    if lists <= 1 or 2 * n >= n_passing:
        assert len(rows) >= 0.75 * min(n, n_passing)
    assert len(rows) <= 2 * n
    if len(rows) and (lists <= 1 or 2 * n >= n_passing):
        # without lists nothing is missed: what is left out scores no higher than what is found
        exact = values @ query
        others = np.setdiff1d(np.flatnonzero(passing), rows)
        assert exact[others].max(initial=-np.inf) <= exact[rows].min() + CLOSE
    np.testing.assert_allclose(scores, values[rows] @ query, atol=CLOSE)


def test_nothing_is_asked_for_or_passes(tmp_path: Path) -> None:
    index, _ = projected(tmp_path, [300], 0)
    query = np.ones(D, np.float32)
    assert len(index.candidates(query, 0)[0]) == 0
    assert len(index.candidates(query, 5, np.zeros(300, bool), 0)[0]) == 0


def test_a_search_leaves_the_threads_of_its_caller_alone(tmp_path: Path) -> None:
    """The number is one for all that use OpenMP on a thread: torch would go on with a single one."""
    flat, _ = projected(tmp_path, [300], 0)
    listed, _ = projected(tmp_path, [300], 4)
    vectors = faiss.IndexFlatIP(D)
    vectors.add(np.ones((300, D), np.float32))
    faiss.write_index(vectors, str(tmp_path / "panel.index"))
    panel = Panel(np.arange(D), [Part(tmp_path / "panel.index", 0, 300)])
    faiss.omp_set_num_threads(3)
    try:
        for index in (flat, listed):
            index.candidates(np.ones(D, np.float32), 50)
        panel.best(np.ones(D), 5)
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))


@settings(max_examples=60)
@given(data=st.data())
def test_a_panel_finds_the_best_and_their_ties(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    genes = np.sort(rng.choice(50, 7, replace=False))
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    values = rng.integers(0, 3, (sum(sizes), 7)).astype(np.float32)  # many ties
    folder, parts, first = tmp_path_factory.mktemp("panel"), [], 0
    for i, n in enumerate(sizes):
        index = faiss.IndexFlatIP(7)
        index.add(values[first : first + n])
        faiss.write_index(index, str(folder / f"{i}.index"))
        parts.append(Part(folder / f"{i}.index", 10 + first, n))  # other studies come before
        first += n
    panel = Panel(genes, parts)
    weights = np.zeros(60)
    weights[:50] = rng.integers(-1, 3, 50)
    passing = None
    allowed = np.ones(sum(sizes), bool)
    if data.draw(st.booleans()):
        allowed = rng.random(sum(sizes)) < 0.5
        passing = np.concatenate([np.ones(10, bool), allowed])
    n = data.draw(st.sampled_from([0, 1, 5, 1000]))
    rows = panel.best(weights, n, passing)
    exact = values @ weights[genes]
    wanted = min(n, int(allowed.sum()))
    if not wanted:
        assert len(rows) == 0
        return
    bound = np.sort(exact[allowed])[::-1][wanted - 1]
    assert sorted(rows.tolist()) == (10 + np.flatnonzero(allowed & (exact >= bound))).tolist()
    np.testing.assert_array_equal(panel.values(rows), values[rows - 10])


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0.index").write_bytes(b"not an index at all")
    with pytest.raises(AtlasCorrupt, match=r"0\.index"):
        Projected(made_codec(), None, [Part(tmp_path / "0.index", 0, 3)])


def test_the_residual_is_what_the_projection_does_not_say() -> None:
    codec = made_codec()
    rng = np.random.default_rng(0)
    query, cell = rng.standard_normal(N_GENES).astype(np.float32), rng.standard_normal(N_GENES)
    projection = codec.project(np.arange(N_GENES), query)
    residual = query.copy()
    codec.subtract(projection, residual)
    # of any projection, as it is that of the other side which is multiplied with it
    for said in (projection, projection + 1):
        left = query.copy()
        codec.subtract(said, left)
        guess = (cell @ codec.components) @ said
        np.testing.assert_allclose(guess + left @ cell, query @ cell, rtol=2e-3)
    assert np.abs(residual @ codec.components).max() < 5e-3  # components have 11 bits


def test_a_codec_is_kept_and_damage_is_noticed(tmp_path: Path) -> None:
    codec, path = made_codec(), tmp_path / "codec.npz"
    codec.save(path)
    again = Codec.load(path)
    np.testing.assert_array_equal(again.components, codec.components)
    assert again.scale == codec.scale
    for damaged in (b"", path.read_bytes()[:-30], b"PK" + bytes(40)):
        path.write_bytes(damaged)
        with pytest.raises(AtlasCorrupt, match=r"codec\.npz"):
            Codec.load(path)


def test_lists_are_made_where_there_are_many_cells() -> None:
    assert [lists_for(n) for n in (0, 19_999, 20_000, 200_000, 22_000_000)] == [0, 0, 32, 256, 16_384]
