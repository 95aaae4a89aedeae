"""Kills a writer at every one of its steps; run as a process of its own, from which the writers fork.

``python -m tests.index.crasher BASE ATLAS ACTION``: for each step of the action, ATLAS becomes a copy of BASE
(nothing, if there is none), a forked process acts on it and kills itself at that step, and a line of JSON
tells what is then found, and what after the action was done again.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from insignia_index import Atlas, InputFile, build_atlas, remove_studies
from insignia_index.catalog import store
from insignia_index.catalog.writer import AtlasWriter
from insignia_index.verify import verify_atlas
from insignia_model.errors import AtlasNotFound

#: The calls by which a writer changes the disk.
CALLS = [
    *((os, name) for name in ("fsync", "truncate")),
    *(
        (Path, name)
        for name in ("rename", "replace", "mkdir", "unlink", "rmdir", "write_bytes", "write_text")
    ),
    *((store.WriteTransaction, name) for name in ("commit", "close")),
    (shutil, "rmtree"),
]


def act(atlas: Path, action: dict[str, list[str]]) -> None:
    """Build from files, replacing, or remove the studies that are still there."""
    if "remove" in action:
        with AtlasWriter.open(atlas) as writer:  # clears what another left
            there = [study for study in action["remove"] if study in writer.studies]
        if there:
            remove_studies(atlas, there)
    else:
        build_atlas(atlas, [InputFile(Path(file)) for file in action["build"]], replace=True)


def killing_at(last: int) -> None:
    """Arrange that this process kills itself before the ``last`` of the calls."""
    n_calls = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal n_calls
            n_calls += 1
            if n_calls == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        return wrapped

    for owner, name in CALLS:
        setattr(owner, name, counted(getattr(owner, name)))


def in_child(work: Callable[[], object], *, kill_after_s: float | None = None) -> bool:
    """Whether the work, in a forked process, came to its end; raises if it failed without being killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("the writer failed")
    return os.WIFEXITED(status)


def found(atlas: Path) -> str:
    """Everything of an atlas that matters here, in words."""
    try:
        with Atlas.open(atlas, threads=1) as opened:
            genes = [f"G{i}" for i in range(12)]
            frame = opened.scores(genes, cell_ids=True).to_frame()
            groups = opened.search(genes[:3], group_by="sample").group_table.rows()
            answer = frame.to_csv() + json.dumps([*groups])
    except AtlasNotFound:
        return "nothing"
    verify_atlas(atlas)
    return answer


def leftovers(atlas: Path) -> list[str]:
    """Files and folders that do not belong to an atlas at rest."""
    with Atlas.open(atlas, threads=1) as opened:
        shards = {study.shard for study in opened._session.snapshot.studies}
    known = {"meta.lmdb", "meta.lmdb-lock", "writer.lock", "revision", "shards"}
    strange = [path.name for path in atlas.iterdir() if path.name not in known]
    for shard in (atlas / "shards").iterdir():
        files = {path.name for path in shard.iterdir()}
        if shard.name not in shards or files != {"genes.bin", "manifest.json", "postings.bin"}:
            strange.append(f"{shard.name}: {sorted(files)}")
    return strange


def restore(base: Path, atlas: Path) -> None:
    """Make the atlas a copy of the base."""
    shutil.rmtree(atlas, ignore_errors=True)
    if base.exists():
        shutil.copytree(base, atlas)


def warm(base: Path, atlas: Path, action: dict[str, list[str]]) -> None:
    """Act once here, so that forked processes find every kernel compiled."""
    restore(base, atlas)
    act(atlas, action)
    found(atlas)


def report(atlas: Path, action: dict[str, list[str]], ended: bool) -> None:
    """Print what is found, and what after the action was done again."""
    state = found(atlas)
    act(atlas, action)
    line = {"ended": ended, "found": state, "then": found(atlas), "left": leftovers(atlas)}
    print(json.dumps(line), flush=True)


def main() -> None:
    """Kill at every step, then at moments spread over the time that the action takes."""
    base, atlas, action = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])

    warm(base, atlas, action)

    def killed_at(step: int) -> bool:
        restore(base, atlas)
        return in_child(lambda: (killing_at(step), act(atlas, action)))

    step = 1
    while not (ended := killed_at(step)):
        report(atlas, action, ended)
        step += 1
    report(atlas, action, ended)
    restore(base, atlas)
    started = time.monotonic()
    in_child(lambda: act(atlas, action))
    took = time.monotonic() - started
    for i in range(10):
        restore(base, atlas)
        report(atlas, action, in_child(lambda: act(atlas, action), kill_after_s=took * (i + 0.5) / 10))


if __name__ == "__main__":
    main()
