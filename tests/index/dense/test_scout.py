"""Scan, bound, glances and levels against plain numpy, and answers of atlases large enough for lists."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from insignia_index import Atlas
from insignia_index.dense.codec import FIRST
from insignia_index.dense.rows import Rows, is_current
from insignia_index.dense.scout import Room, in_blocks
from insignia_index.dense.train import retrain
from insignia_index.kernels import byte_dot
from insignia_index.kernels.byte_dot import LANES, SIDE, block_bytes
from insignia_index.kernels.memory import HAS_PAIR_DOT
from insignia_index.kernels.row_scores import hints_of, keep_best, place_of
from insignia_index.kernels.scout import bound_of, coded, scan
from insignia_model.errors import AtlasCorrupt

from ..made import build, study

N_CELLS = (700, 250, 30)


def dotting(dot: Any) -> Any:
    """A way of multiplying that Python can call with arrays."""

    @njit
    def call(codes: np.ndarray, query: np.ndarray, out: np.ndarray) -> None:
        a, b = np.uint64(codes.ctypes.data), np.uint64(query.ctypes.data)
        dot(a, b, len(query) // SIDE, np.uint64(out.ctypes.data))

    return call


WAYS = [byte_dot.dot_block, byte_dot.dot_block_by_loop]
WAYS += [byte_dot.dot_block_by_pairs] if HAS_PAIR_DOT else []


@pytest.mark.parametrize("dot", [dotting(way) for way in WAYS])
@pytest.mark.parametrize("d", [1, 4, 8, 63, 64, 65, 128])
def test_bytes_are_multiplied_alike_by_every_way(dot: Any, d: int) -> None:
    rng = np.random.default_rng(d)
    for codes, query in (
        (rng.integers(0, 256, (LANES, d)), rng.integers(-128, 128, d)),
        (np.full((LANES, d), 255), np.full(d, -128)),
        (np.full((LANES, d), 255), np.full(d, 127)),
    ):
        padded = np.zeros(block_bytes(d) // LANES, np.int8)
        padded[:d] = query
        out = np.full(LANES, -1, np.int32)
        dot(in_blocks(codes.astype(np.uint8)), padded, out)
        assert out.tolist() == (codes @ query).tolist()


@settings(max_examples=100)
@given(data=st.data())
def test_the_best_are_kept_and_few_more(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 9_999)))
    n_rows, n = data.draw(st.integers(1, 3_000)), data.draw(st.integers(1, 3_000))
    spread = data.draw(st.sampled_from([0.0, 1e-3, 1.0, 1e6]))
    guesses = (spread * rng.standard_normal(n_rows) + rng.standard_normal()).astype(np.float32)
    rows, before = np.arange(n_rows), guesses.copy()
    n_kept = keep_best(rows, guesses, n_rows, n)
    kept = rows[:n_kept]
    assert n_kept >= min(n, n_rows)
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(guesses[:n_kept], before[kept])
    assert before[kept].min() >= np.delete(before, kept).max(initial=-np.inf)
    if spread == 1.0:
        assert n_kept <= n + max(40, n_rows // 40)


@settings(max_examples=100)
@given(data=st.data())
def test_lists_are_scanned_and_bounded_as_numpy_does(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 9_999)))
    d, sizes = data.draw(st.sampled_from([5, 64])), np.array([3, 0, 900, 41])
    starts = np.cumsum([0, *sizes])
    codes = rng.integers(0, 256, (sizes.sum(), d), dtype=np.uint8)
    rows = np.split(rng.permutation(sizes.sum()), starts[1:-1])
    low, step = rng.standard_normal(d).astype(np.float32), rng.random(d).astype(np.float32)
    query = data.draw(st.sampled_from([0.0, 1.0])) * rng.standard_normal(d).astype(np.float32)
    lists = np.array(data.draw(st.lists(st.sampled_from([0, 1, 2, 3]), min_size=1, unique=True)))
    passing = rng.random(sizes.sum()) < data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    parts = np.zeros(block_bytes(d) // LANES, np.int8)
    scale, offset = coded(query.astype(np.float32), low, step, parts)
    blocks = [in_blocks(codes[starts[i] : starts[i + 1]]) for i in range(len(sizes))]
    first_blocks = np.cumsum([0, *map(len, blocks)])
    scores = np.empty(sizes.sum() + LANES, np.int32)
    ids = np.array([part.ctypes.data for part in rows], np.uint64)
    in_lists = np.concatenate(blocks)
    n = scan(lists, first_blocks, sizes, np.uint64(in_lists.ctypes.data), ids, passing, parts, scores)
    seen = np.concatenate([codes[starts[i] : starts[i + 1]] for i in lists])
    passes = passing[np.concatenate([rows[i] for i in lists])]
    assert n == len(seen)
    exact = (low + step * (seen + 0.5)) @ query
    error = 0.5 * scale * 256 * d + 1e-4
    assert (np.abs(scale * scores[:n] + offset - exact)[passes] <= error).all()
    assert (scores[:n][~passes] == -(2**31)).all()
    wanted = data.draw(st.integers(1, 1_000))
    reached = (scores[:n] >= bound_of(scores, n, wanted)) & passes
    assert reached.sum() >= min(wanted, passes.sum())
    if reached.any() and not reached[passes].all():
        assert scores[:n][reached].min() > scores[:n][passes & ~reached].max()


def test_hints_lead_to_the_place_of_every_row() -> None:
    starts = np.cumsum([0, 3, 0, 600, 1, 1, 300, 0])
    hints = hints_of(starts)
    for row in range(starts[-1]):
        study, cell = place_of(starts, hints, row)
        assert starts[study] <= row == starts[study] + cell < starts[study + 1]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas whose cells lie in lists: two types, of which long cells are most like all."""
    made = []
    for i, n in enumerate(N_CELLS):
        each = study(f"S{i}", n, 2_500, density=0.2, seed=i)
        each.values[::2, :200] *= 4
        made.append(each)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("insignia_index.dense.index._WORTH_LISTS", 100)
        patch.setattr("insignia_index.dense.index._CELLS_A_LIST", 50)
        patch.setattr("insignia_index.dense.index.LARGE_STUDY", 200)
        return build(tmp_path_factory.mktemp("listed"), made, faiss="projected")


@pytest.mark.parametrize("where", [None, {"study": "S1"}, {"sample": "S0-s3"}])
def test_what_is_found_is_scored_exactly_and_much_of_the_best(
    listed: Path, where: dict[str, str] | None
) -> None:
    with Atlas.open(listed, threads=1) as atlas:
        loaded = atlas._session.dense.load()
        assert loaded._scout is not None
        for cell in ("S0:c0", "S0:c1", "S1:c7", "S2:c29"):
            every = atlas.similar(cell, engine="sparse", where=where, k=sum(N_CELLS)).cells
            found = atlas.similar(cell, engine="faiss", where=where, k=10, recall_target=0.99)
            assert (found.engine, len(found.cells)) == ("faiss", min(10, len(every)))
            exact = every.set_index(["study", "cell_id"])["score"]
            of_found = exact.loc[list(zip(found.cells["study"], found.cells["cell_id"], strict=True))]
            np.testing.assert_allclose(found.cells["score"], of_found, rtol=1e-5)
            assert (found.cells["score"] >= every["score"][9] * (1 - 1e-5)).sum() >= 5
        assert not loaded._rooms[0].weights.any()


def test_guesses_are_near_the_scores_without_the_tails(listed: Path) -> None:
    with Atlas.open(listed, threads=1) as atlas:
        snapshot, dense = atlas._session.snapshot, atlas._session.dense
        loaded = dense.load()
        genes, weights = dense.profile(5)
        codec, room = loaded.projected.codec, Room(1 << 16)
        room.weights[genes] = weights
        first = codec.project(genes, weights)[:FIRST]
        for projection in (first, loaded._scout.projection(5)):
            residual = np.zeros(1 << 16, np.float32)
            residual[genes] = weights
            codec.subtract(projection, residual)
            room.weights[:] = residual
            n = snapshot.n_cells
            n_left, n_candidates = loaded._scout.propose(projection, room, n, n, None, n)
            assert n_left == n_candidates == n
            assert sorted(room.rows[:n].tolist()) == list(range(n))
            expected = np.empty(n)
            for row in range(n):
                of_cell, values = dense.profile(row)
                largest = np.lexsort((of_cell, -values))[:40]
                expected[row] = values[largest] @ residual[of_cell[largest]]
                expected[row] += codec.project(of_cell, values)[:FIRST] @ projection
            off = room.guesses[:n] - expected[room.rows[:n]]
            assert np.abs(off).max() < 0.02 * np.abs(expected).max()


def test_an_earlier_version_of_rows_is_refused_and_made_anew(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A", 120, 2_500, density=0.2)], faiss="projected")
    (rows,) = path.glob("faiss/*/*.rows")
    raw = bytearray(rows.read_bytes())
    raw[:8] = b"INSGROW1"
    rows.write_bytes(raw)
    with pytest.raises(AtlasCorrupt, match="of an earlier version; `insignia retrain` makes it anew"):
        Rows(rows, len(raw), 120)
    with Atlas.open(path) as atlas:  # and answers without them meanwhile
        assert atlas.similar("A:c3", groups=False, recall_target=0.01).engine == "sparse"
    retrain(path)
    (rows,) = path.glob("faiss/*/*.rows")
    assert is_current(rows)


def test_a_study_that_comes_to_rows_of_an_earlier_version_has_all_made_anew(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A", 120, 2_500, density=0.2)], faiss="projected")
    (rows,) = path.glob("faiss/*/*.rows")
    rows.write_bytes(b"INSGROW1" + rows.read_bytes()[8:])
    build(tmp_path, [study("B", 50, 2_500, density=0.2)])
    assert len(list(path.glob("faiss/*/*.rows"))) == 2
    assert all(map(is_current, path.glob("faiss/*/*.rows")))
