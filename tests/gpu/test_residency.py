"""What is on the device, what is not, and that nobody notices a difference."""

import logging
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from insignia_index import Atlas, InputFile, SearchRequest, build_atlas, remove_studies
from insignia_index.cli.manage import info
from insignia_index.format.layout import BITMAP, FULL, LIST
from insignia_index.gpu.engine import DeviceEngine
from insignia_index.gpu.layout import TILE_CELLS
from insignia_index.gpu.residency import _memory
from insignia_index.kernels.directory import ENTRIES, N_ENTRIES
from insignia_model.errors import AtlasCorrupt

from ..index.made import blocks_of, build, study, write_h5ad
from .conftest import MakeDevice, OpenAtlas
from .equal import assert_same, facts

GENES = [f"G{i}" for i in range(12)]
DENSITY = [0.01, 0.03, 0.2, 0.5, 0.97, 1.0] * 2


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = [study(name, 900, GENES, density=DENSITY, batch=[i % 5 for i in range(900)]) for name in "abcd"]
    with blocks_of(400):
        return build(tmp_path_factory.mktemp("parts"), made)


REQUESTS = [
    SearchRequest.of(GENES, k=50),
    SearchRequest.of(["G0"], k=2_000, hits="top:300"),
    SearchRequest.of(GENES[:5], hits="zscore:1", where={"batch": [1, 2]}, quantiles=True),
    SearchRequest.of(GENES, where={"study": ["b", "d"]}, hits="percentile:80", group_by=("batch",)),
]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_blocks_that_do_not_fit_are_answered_by_the_processor(
    path: Path, open_on_device: OpenAtlas, share: float
) -> None:
    with open_on_device(path) as whole:
        n_bytes = whole._session.device.residency.n_bytes
        assert whole.info().n_cells_on_device == 3600
    with open_on_device(path, device_memory=int(share * n_bytes)) as atlas, Atlas.open(path) as processor:
        info = atlas.info()
        assert info.device
        assert share - 0.2 <= info.n_cells_on_device / info.n_cells <= share
        for request in REQUESTS:
            assert_same(atlas, request)
            assert facts(atlas.run(request)) == facts(processor.run(request))
        assert processor.info().device == ""


def test_the_atlas_has_containers_of_every_kind_and_more_cells_than_a_tile(tmp_path: Path) -> None:
    made = study("wide", 17_123, GENES, density=DENSITY)
    with Atlas.open(build(tmp_path, [made])) as atlas:
        (row,) = atlas._session.snapshot.table
        assert 2 * max(TILE_CELLS.values()) < 17_123
        entries = _memory(int(row[ENTRIES]), 8 * int(row[N_ENTRIES])).view("<u8")
        assert set((entries >> np.uint64(16) & np.uint64(3)).tolist()) == {LIST, BITMAP, FULL}


def test_a_new_revision_keeps_what_is_there_and_frees_what_is_gone(
    tmp_path: Path, open_on_device: OpenAtlas
) -> None:
    made = {name: study(name, 300, GENES, density=DENSITY) for name in "abc"}
    path = build(tmp_path, [made["a"], made["b"]])
    with open_on_device(path) as atlas:
        first = atlas._session.device.residency
        addresses = {key: held.memory.address for key, held in first._held.items()}
        build_atlas(path, [InputFile(write_h5ad(tmp_path / "c.h5ad", made["c"]))], replace=False)
        assert atlas.refresh()
        second = atlas._session.device.residency
        assert atlas.info().n_cells_on_device == 900
        assert {key: second._held[key].memory.address for key in addresses} == addresses
        for request in REQUESTS[:2]:
            assert_same(atlas, request)
        remove_studies(path, ["a"])
        assert atlas.refresh()
        assert atlas.info().n_cells_on_device == 600
        assert len(atlas._session.device.residency._held) == 2
        for request in REQUESTS[:2]:
            assert_same(atlas, request)


def test_a_damaged_study_stays_with_the_processor_which_names_the_gene(
    tmp_path: Path, open_on_device: OpenAtlas, caplog: pytest.LogCaptureFixture
) -> None:
    path = build(tmp_path, [study(name, 300, GENES, density=DENSITY) for name in "ab"])
    (postings,) = path.glob("shards/a@*/postings.bin")
    raw = bytearray(postings.read_bytes())
    with Atlas.open(path) as atlas:
        shard = atlas._session.snapshot.shards[0]
        at = int(shard.table[0, ENTRIES]) - shard._bytes.ctypes.data + 12 * len(GENES)
    raw[-(-at // 64) * 64 + 2] ^= 0x40  # a value of the first gene
    postings.write_bytes(raw)
    with caplog.at_level(logging.WARNING), open_on_device(path) as atlas:
        assert atlas.info().n_cells_on_device == 300
        assert "left to the processor" in caplog.text
        assert_same(atlas, SearchRequest.of(["G1", "G2"]))
        with pytest.raises(AtlasCorrupt, match="gene G0"):
            atlas.search(["G0"])


def test_info_says_what_is_on_the_device(
    path: Path, open_on_device: OpenAtlas, make_device: MakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_on_device(path) as atlas:
        name, n_bytes = atlas.info().device, atlas._session.device.residency.n_bytes
    monkeypatch.setattr(
        "insignia_index.atlas.open_engine", lambda device, memory: DeviceEngine(make_device, memory)
    )
    for share, said in ((1.0, f"3,600  cells on {name}\n"), (0.5, "; the processor searches the other ")):
        options = ["--device", "cuda", "--device-memory", str(int(share * n_bytes))]
        done = CliRunner().invoke(info, [str(path), *options], catch_exceptions=False)
        assert done.exit_code == 0
        assert said in done.output


def test_a_device_without_any_memory_leaves_all_to_the_processor(
    path: Path, open_on_device: OpenAtlas, make_device: MakeDevice, caplog: pytest.LogCaptureFixture
) -> None:
    if make_device().name != "emulated":
        pytest.skip("a real device has some")
    with caplog.at_level(logging.WARNING), open_on_device(path, n_bytes=100) as atlas:
        assert "no memory left" in caplog.text
        assert atlas.info().n_cells_on_device == 0
        assert_same(atlas, REQUESTS[0])


def test_a_search_for_which_groupings_have_to_go_is_still_answered_on_the_device(
    path: Path, open_on_device: OpenAtlas, make_device: MakeDevice, caplog: pytest.LogCaptureFixture
) -> None:
    if make_device().name != "emulated":
        pytest.skip("a real device has more memory")
    asked = [
        SearchRequest.of(GENES, where={"batch": batches})
        for batches in ([0], [1], [2], [3], [0, 1], [0, 2], [0, 3], [1, 2], [2, 3])
    ]
    with open_on_device(path) as atlas:
        n_bytes = atlas._session.device.residency.n_bytes
    with caplog.at_level(logging.WARNING):
        for room in range(40_000, 400_000, 4_000):  # the least for one search
            caplog.clear()
            with open_on_device(path, n_bytes=n_bytes + room) as atlas:
                atlas.run(asked[4])
            if not caplog.text:
                break
        with open_on_device(path, n_bytes=n_bytes + room) as atlas:
            for request in asked:
                assert_same(atlas, request)
    assert not caplog.text


def test_without_a_budget_room_to_work_in_is_left(path: Path, open_on_device: OpenAtlas) -> None:
    with open_on_device(path, device_memory=None) as atlas:
        assert atlas.info().n_cells_on_device == 3600
    with open_on_device(path, device_memory=None, n_bytes=1 << 29) as atlas:
        if atlas.info().device == "emulated":  # which has as little as it is told to
            assert atlas.info().n_cells_on_device == 0
