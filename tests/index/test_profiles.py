"""Reading whole profiles: every container, few and many cells, damage."""

from pathlib import Path

import numpy as np
import pytest

from insignia_index import Atlas, CancelToken
from insignia_index.kernels.directory import PAYLOAD
from insignia_index.search.grouping import without_cells
from insignia_index.search.profiles import Chosen, mean_profile
from insignia_model import parse_condition
from insignia_model.errors import AtlasCorrupt, SearchCancelled

from .made import blocks_of, build, study


@pytest.mark.parametrize("value_dtype", ["float16", "float32"])
@pytest.mark.parametrize("block_cells", [700, 65_536])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_mean_over_any_number_of_cells_is_that_of_their_profiles(
    tmp_path: Path, value_dtype: str, block_cells: int, threads: int
) -> None:
    # from 12 postings a gene to all 2,500: lists that are searched and lists that are read, bitmaps, columns
    density = np.concatenate([np.linspace(0.005, 0.1, 30), np.linspace(0.1, 1, 30)])
    made = [study(name, n, 60, density=density, signed=True) for name, n in (("a", 2500), ("b", 33))]
    with blocks_of(block_cells):
        path = build(tmp_path, made, value_dtype=value_dtype)
    rng = np.random.default_rng(0)
    with Atlas.open(path, threads=threads) as atlas:
        session = atlas._session
        snapshot = session.snapshot
        rows = atlas.profiles([(made[i].name, cell) for i in (0, 1) for cell in made[i].obs.index])[1]
        work = session.work(session.groupings.get((), (), None), CancelToken(), None)
        sets = [[0], [699], [700], [2499], [2500], [2532], *([row] for row in rng.integers(0, 2533, 20))]
        sets += [rng.permutation(2533)[:n] for n in (2, 7, 8, 40, 300, 1500, 2533)]
        for chosen in sets:
            of = Chosen.of_rows(snapshot, np.sort(np.array(chosen, np.int64)))
            assert of.n_cells == len(chosen)
            found = mean_profile(work, of, value_dtype == "float16")
            wanted = rows[chosen].astype(np.float64).mean(axis=0)
            if len(chosen) == 1:
                np.testing.assert_array_equal(found, wanted)
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_cells_that_are_left_out_are_as_if_a_filter_had_left_them_out(tmp_path: Path) -> None:
    keep = [str(i % 3) for i in range(40)]
    with blocks_of(16):
        path = build(tmp_path, [study("a", 40, keep=keep), study("b", 40, keep=keep)])
    rng = np.random.default_rng(1)
    with Atlas.open(path) as atlas:
        snapshot, groupings = atlas._session.snapshot, atlas._session.groupings
        everything = groupings.get(("sample",), (), None)
        rows = np.array([row for row in range(80) if row % 40 % 3 == 0], np.int64)
        filtered = groupings.get(("sample",), (parse_condition("keep!=0"),), None)
        mine = without_cells(snapshot, everything, rows)
        for name in ("order", "order_starts", "slot_cells", "blocks"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(filtered, name))
        # cells that a filter has left out already change nothing
        again = without_cells(snapshot, filtered, rng.permutation(rows))
        assert again.n_cells == filtered.n_cells
        np.testing.assert_array_equal(again.order, filtered.order)
        nobody = without_cells(snapshot, everything, np.arange(80))
        assert (nobody.n_cells, len(nobody.blocks)) == (0, 0)


def test_a_damaged_block_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    with blocks_of(50):
        path = build(tmp_path, [study("a", 100, 80), study("b", 50, 80)])
    (postings,) = (p for p in path.rglob("postings.bin") if p.parent.name.startswith("a@"))
    with Atlas.open(path) as atlas:
        whole = atlas.profiles(["a:c99", "b:c1"])[1]
        payload = (
            atlas._session.snapshot.table[0, PAYLOAD] - atlas._session.snapshot.shards[0]._bytes.ctypes.data
        )
    content = bytearray(postings.read_bytes())
    content[payload + 40] ^= 1
    postings.write_bytes(content)
    with Atlas.open(path) as atlas:
        np.testing.assert_array_equal(atlas.profiles(["a:c99", "b:c1"])[1], whole)
        for _ in range(2):
            with pytest.raises(AtlasCorrupt, match="study 'a', block 0, gene"):
                atlas.profiles("a:c1")
            with pytest.raises(AtlasCorrupt):
                atlas.similar("a:c1")
        # all cells are scored, also those of the damaged block
        with pytest.raises(AtlasCorrupt):
            atlas.similar(centroid={"study": "b"})


def test_reading_many_profiles_can_be_cancelled_between_blocks(tmp_path: Path) -> None:
    class After(CancelToken):
        left = 3

        def check(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise SearchCancelled

    with blocks_of(10):
        path = build(tmp_path, [study("a", 100)])
    with Atlas.open(path, threads=1) as atlas:
        session = atlas._session
        grouping = session.groupings.get((), (), None)
        with pytest.raises(SearchCancelled):
            mean_profile(session.work(grouping, After(), None), Chosen.passing(grouping), True)
