"""Searches while another process writes; cancellation."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from insignia_index import Atlas, CancelToken, InputFile, SearchRequest, build_atlas, remove_studies
from insignia_index.verify import verify_atlas
from insignia_model.errors import AtlasLocked, SearchCancelled

from .made import Study, blocks_of, build, study, write_h5ad

PROJECT = Path(__file__).parents[2]
#: One revision after the other: what is added or replaced (name and seed), or removed.
STEPS = [
    ["A0", "B0"],
    ["C0"],
    ["A1"],
    ["-B"],
    ["B2", "C2"],
    ["-A", "-C"],
    ["A0", "D0"],
    ["D1"],
    ["-D"],
    ["C3"],
] * 2

WRITER = """
import json, pathlib, sys, time
from insignia_index import InputFile, build_atlas, remove_studies
from insignia_index.build import study, anndata_source
import anndata.io, h5py
atlas, steps = sys.argv[1], json.loads(sys.argv[2])
print("ready", flush=True)
for step in steps:
    time.sleep(0.02)
    removed = [name[1:] for name in step if name[0] == "-"]
    if removed:
        remove_studies(atlas, removed)
    else:
        build_atlas(atlas, [InputFile(pathlib.Path(file)) for file in step], replace=True)
"""


def made(name: str) -> Study:
    seed = int(name[1])
    return study(name[0], 30 + 7 * seed, 12, seed=seed)


def answer(atlas: Atlas) -> str:
    result = atlas.search([f"G{i}" for i in range(12)], k=7, group_by=("study", "sample"))
    tables = (result.cell_table, result.group_table, result.sample_table)
    return repr([result.n_cells, result.cutoff, *([*table.rows()] for table in tables)])


@contextmanager
def writing(path: Path, steps: list[list[str]]) -> Iterator["subprocess.Popen[str]"]:
    """Another process, which begins to write now."""
    command = [sys.executable, "-c", WRITER, str(path), json.dumps(steps)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        yield writer
    assert writer.returncode == 0


def apply(path: Path, folder: Path, step: list[str]) -> None:
    if step[0].startswith("-"):
        remove_studies(path, [name[1:] for name in step])
    else:
        build_atlas(path, [InputFile(folder / f"{name}.h5ad") for name in step], replace=True)


def test_every_answer_is_that_of_one_revision(tmp_path: Path) -> None:
    for name in {name for step in STEPS for name in step if name[0] != "-"}:
        write_h5ad(tmp_path / f"{name}.h5ad", made(name))
    answers = []  # by revision, from an atlas that nobody disturbs
    for step in STEPS:
        apply(tmp_path / "quiet", tmp_path, step)
        with Atlas.open(tmp_path / "quiet") as atlas:
            answers.append(answer(atlas))
    path = tmp_path / "busy"
    apply(path, tmp_path, STEPS[0])
    steps = [[n if n[0] == "-" else str(tmp_path / f"{n}.h5ad") for n in step] for step in STEPS[1:]]
    asked: list[str] = []

    def reopen() -> None:
        with Atlas.open(path, threads=1) as other:
            asked.append(answer(other))

    with Atlas.open(path, threads=2) as atlas, ThreadPoolExecutor(4) as pool:
        works: list[Callable[[], object]] = [lambda: asked.append(answer(atlas))] * 2
        works += [lambda: (atlas.refresh(), time.sleep(0.001)), reopen]
        with writing(path, steps) as writer:

            def until_written(work: Callable[[], object]) -> None:
                while writer.poll() is None:
                    work()

            for done in [pool.submit(until_written, work) for work in works]:
                done.result()
        atlas.refresh()
        assert answer(atlas) == answers[-1]
    assert set(asked) <= set(answers)
    assert len(set(asked)) > 1
    verify_atlas(path)


def test_an_atlas_is_verified_while_it_is_written(tmp_path: Path) -> None:
    for name in ("A0", "A1"):
        write_h5ad(tmp_path / f"{name}.h5ad", made(name))
    path = tmp_path / "atlas"
    apply(path, tmp_path, ["A0"])
    n_verified = 0
    with writing(path, [[str(tmp_path / f"A{i % 2}.h5ad")] for i in range(1, 9)]) as writer:
        while writer.poll() is None:
            verify_atlas(path)
            n_verified += 1
    assert n_verified > 0


def test_of_two_writers_at_once_one_is_refused(tmp_path: Path) -> None:
    made = [study(name, 20) for name in "ABCDEF"]
    path = build(tmp_path, [study("Z")])
    files = [InputFile(write_h5ad(tmp_path / f"{m.name}.h5ad", m)) for m in made]
    start = threading.Barrier(len(files))

    def add(file: InputFile) -> str | None:
        start.wait()
        try:
            return build_atlas(path, [file]).added[0]
        except AtlasLocked:
            return None

    with ThreadPoolExecutor(len(files)) as pool:
        added = [name for name in pool.map(add, files) if name]
    assert added
    with Atlas.open(path) as atlas:
        assert [s.study for s in atlas.studies()] == sorted([*added, "Z"])
    verify_atlas(path)


class CancelledAt(CancelToken):
    """Cancels itself at the n-th check."""

    __slots__ = ("left",)

    def __init__(self, n_checks: int) -> None:
        super().__init__()
        self.left = n_checks

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            self.cancel()
        super().check()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_search_stops_where_it_is_cancelled_and_disturbs_no_other(tmp_path: Path, threads: int) -> None:
    with blocks_of(16):
        path = build(tmp_path, [study(name, 200, 9, density=0.5) for name in "AB"])
    request = SearchRequest.of([f"G{i}" for i in range(9)], k=20)
    with Atlas.open(path, threads=threads) as atlas:
        whole = [*atlas.run(request).cell_table.rows()]
        for n_checks in range(100):
            try:
                found = [*atlas.run(request, cancel=CancelledAt(n_checks)).cell_table.rows()]
            except SearchCancelled:
                assert [*atlas.run(request).cell_table.rows()] == whole
            else:
                break
        assert n_checks > 0
        assert found == whole


def test_a_deadline_stops_searches_and_streams(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A"), study("B")])
    request = SearchRequest.of(["G1"])
    with Atlas.open(path) as atlas:
        assert atlas.run(request, cancel=CancelToken(time.monotonic() + 60)).n_cells == 80
        for token in (CancelToken(time.monotonic() - 1), CancelToken()):
            if token.deadline is None:
                token.cancel()
            with pytest.raises(SearchCancelled):
                atlas.run(request, cancel=token)
            with pytest.raises(SearchCancelled):
                list(atlas.iter_scores(["G1"], cancel=token))


def test_many_threads_share_one_atlas(tmp_path: Path) -> None:
    path = build(tmp_path, [study(name, 100, 30, age=range(100)) for name in "ABC"])
    asked = [([f"G{i}" for i in range(n, 30)], {"age": list(range(n + 1))}) for n in range(25)]
    with Atlas.open(path, threads=2) as atlas:
        alone = [[*atlas.search(genes, where=where).cell_table.rows()] for genes, where in asked]
    with Atlas.open(path, threads=2) as atlas, ThreadPoolExecutor(8) as pool:

        def ask(question: tuple[list[str], dict[str, list[int]]]) -> list[dict[str, object]]:
            return [*atlas.search(question[0], where=question[1]).cell_table.rows()]

        for _ in range(4):
            assert [*pool.map(ask, asked)] == alone
