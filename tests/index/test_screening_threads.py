"""What a screen reads ahead, and what stops it: errors, cancellation, interrupts, changes meanwhile."""

import gc
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insignia_index import Atlas, CancelToken, Signature
from insignia_index.search import screening
from insignia_model.errors import AtlasCorrupt
from insignia_model.screen import ScreenRequest, signatures_of

from .made import blocks_of, build, study
from .test_screening import exactly, of_every_kind, screened, searched, some_signatures


def signatures_until(n: int, error: BaseException) -> Iterable[Signature]:
    for i in range(n):
        yield Signature({f"G{i}": 1.0}, f"S{i}")
    raise error


def test_an_error_of_the_library_arrives_after_the_rows_that_were_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screening, "_MAX_BATCH", 2)
    with Atlas.open(build(tmp_path, [study("A")])) as atlas:
        stream = atlas.screen(signatures_until(5, OSError("the disk is gone")))
        assert [next(stream).n_signatures for _ in range(2)] == [2, 2]
        with pytest.raises(OSError, match="the disk is gone"):
            next(stream)
        with pytest.raises(StopIteration):
            next(stream)
        assert len(atlas.screen({"x": ["G1"]}).to_table()) == 1


def test_signatures_are_read_one_batch_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "_MAX_BATCH", 3)
    read = []

    def source() -> Iterable[Signature]:
        for i in range(12):
            read.append(i)
            yield Signature({f"G{i}": 1.0})

    with Atlas.open(build(tmp_path, [study("A")])) as atlas:
        stream = atlas.screen(source())
        assert (read, stream.plan.n_per_batch) == ([], 3)
        for n_read in (6, 9):
            next(stream)
            assert len(read) == n_read
        stream.close()
        with pytest.raises(StopIteration):
            next(stream)
    assert len(read) == 9


def test_a_cancelled_screen_stops_between_two_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from insignia_model.errors import SearchCancelled

    with blocks_of(8):
        path = build(tmp_path, [study("A", 400)])
    token, done = CancelToken(), []

    def scoring(*arguments: Any) -> Any:
        done.append(None)
        if len(done) == 5:
            token.cancel()
        return kernel(*arguments)

    kernel = screening.score_signatures
    with Atlas.open(path, threads=2) as atlas:
        wanted = exactly(atlas.screen({"x": ["G1"]}).to_table().rows())
        with monkeypatch.context() as patch:
            patch.setattr(screening, "score_signatures", scoring)
            request = ScreenRequest.of()
            stream = atlas.run_screen(request, signatures_of({"x": ["G1"]}), cancel=token)
            with pytest.raises(SearchCancelled):
                next(stream)
        assert 5 <= len(done) <= 6  # of 50 blocks
        assert exactly(atlas.screen({"x": ["G1"]}).to_table().rows()) == wanted


def test_containers_are_checked_by_the_threads_that_score(tmp_path: Path) -> None:
    with blocks_of(8):
        path = build(tmp_path, [study("A", 100), study("B", 60)])
    with Atlas.open(path, threads=3) as atlas:
        snapshot = atlas._session.snapshot
        genes = np.array([snapshot.gene_ids[f"G{j}"] for j in range(5)])
        assert len(snapshot.unchecked(genes)) == 5
        list(atlas.screen({"x": ["G0", "G1"], "y": ["G1", "G2"]}))
        assert snapshot.unchecked(genes).tolist() == genes[3:].tolist()
        assert all(shard.checked[genes[:3]].all() for shard in snapshot.shards)


def test_a_damaged_container_ends_the_screen(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A", 100), study("B", 60)])
    with Atlas.open(path, threads=2) as atlas:
        snapshot = atlas._session.snapshot
        gene = snapshot.gene_ids["G1"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("insignia_index.snapshot.check_genes", lambda *_: (4, 0, gene))
            with pytest.raises(AtlasCorrupt, match="G1: a container does not match its checksum"):
                next(atlas.screen({"x": ["G1"]}))
        assert snapshot.unchecked(np.array([gene])).tolist() == [gene]
        assert len(atlas.screen({"x": ["G1"]}).to_table()) == 2


def test_weights_that_are_one_power_of_two_and_others_give_the_same_bits(tmp_path: Path) -> None:
    path = build(tmp_path, [of_every_kind("A", 700), of_every_kind("B", 300, 5)])
    genes = [f"G{i}" for i in range(30)]
    alike = {f"{w}": dict.fromkeys(genes, w) for w in (1.0, 4.0, -1.0, 3.0, 2.0**-80, 2.0**80)}
    extreme = {"wide": {gene: 2.0 ** (9 * i - 130) for i, gene in enumerate(genes)}}
    with Atlas.open(path, threads=2) as atlas:
        for aggregate in ("mean", "sum"):
            request = ScreenRequest.of(group_by=("study", "sample"), aggregate=aggregate)
            for signatures in (alike, {"1": alike["1.0"], "3": alike["3.0"]}, alike | extreme):
                assert screened(atlas, request, signatures) == searched(atlas, request, signatures)


def test_an_interrupt_stops_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from insignia_index.search import tasks

    with blocks_of(8):
        path = build(tmp_path, [study("A", 1000)])
    done = []

    def scoring(*arguments: Any) -> Any:
        done.append(None)
        return kernel(*arguments)

    def interrupted(futures: Any) -> None:
        while not done:
            pass
        raise KeyboardInterrupt

    kernel = screening.score_signatures
    with Atlas.open(path, threads=2) as atlas:
        atlas.warm()
        list(atlas.screen({"x": [f"G{j}" for j in range(12)]}))  # so that all are checked
        monkeypatch.setattr(screening, "score_signatures", scoring)
        with monkeypatch.context() as patch:
            patch.setattr(tasks, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                next(atlas.screen({f"S{i}": [f"G{j}" for j in range(12)] for i in range(500)}))
    # closed: the threads have ended, and not because all 125 blocks were scored
    assert len(done) < 125


def test_a_screen_keeps_its_revision_and_the_atlas_may_be_closed(tmp_path: Path) -> None:
    from insignia_index import InputFile, build_atlas

    from .made import write_h5ad

    path = build(tmp_path, [study("A"), study("B")])
    signatures = {f"S{i}": [f"G{i}"] for i in range(6)}
    atlas = Atlas.open(path, threads=2)
    request = ScreenRequest.of(group_by=("study", "sample"))
    wanted = searched(atlas, request, signatures)
    stream = atlas.run_screen(request, signatures_of(signatures))
    late = atlas.run_screen(request, signatures_of(signatures))
    build_atlas(path, [InputFile(write_h5ad(tmp_path / "new.h5ad", study("C")))])
    assert atlas.refresh()
    assert len(atlas.search(["G1"]).group_table) == 3
    assert exactly(stream.to_table().rows()) == wanted
    atlas.close()
    assert exactly(late.to_table().rows()) == wanted


def test_two_screens_and_searches_at_once_do_not_disturb_one_another(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with blocks_of(100):
        path = build(tmp_path, [of_every_kind("A", 1500), of_every_kind("B", 900, 6)])
    libraries = [some_signatures(n) for n in (15, 23)]
    request = ScreenRequest.of(group_by=("study", "sample"))
    with Atlas.open(path, threads=2) as atlas, ThreadPoolExecutor(4) as pool:
        wanted = [searched(atlas, request, signatures) for signatures in libraries]
        for _ in range(3):
            screens = [pool.submit(screened, atlas, request, s, 60_000) for s in libraries]
            searches = [pool.submit(searched, atlas, request, s) for s in libraries]
            assert [s.result() for s in screens] == wanted
            assert [s.result() for s in searches] == wanted


def test_the_memory_of_a_screen_is_given_back_at_its_end(tmp_path: Path) -> None:
    gone = []
    with Atlas.open(build(tmp_path, [study("A", 300)])) as atlas:
        gc.disable()  # which would find it some time, at the latest when much else has been made
        try:
            for is_read in (True, False):
                stream = atlas.screen({"x": ["G1"], "y": ["G2"]})
                frame = stream._chunks.gi_frame
                gone.append(weakref.ref(frame.f_locals["self"]))
                del frame
                if is_read:
                    assert len(stream.to_table()) == 2
                else:
                    next(stream)
                    stream.close()
                del stream
            assert [reference() for reference in gone] == [None, None]
        finally:
            gc.enable()
