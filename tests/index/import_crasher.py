"""Kills an import at every one of its steps; run as a process of its own, from which the imports fork.

``python -m tests.index.import_crasher FOLDER ATLAS``: for each step of importing FOLDER, ATLAS is removed, a
forked process imports and kills itself at that step, and a line of JSON tells what is then found, and what
after another import, which goes on where the first one stopped.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from insignia_index.build.signature import array, regroup
from insignia_index.build.signature.importer import SignatureFolders, import_signature

from .crasher import CALLS, found, in_child, killing_at, leftovers

CALLS.append((os, "pwrite"))


def act(folder: Path, atlas: Path) -> None:
    """Import in many small steps; what it says goes to a file beside the atlas."""
    array.READ_ENTRIES, regroup.COMMIT_BYTES = 40, 1
    said = atlas.with_name("said")
    said.write_text("")
    import_signature(
        atlas, SignatureFolders([folder]), say=lambda text: said.write_text(said.read_text() + text)
    )


def clear(atlas: Path) -> None:
    """Remove the atlas and the import's work."""
    for path in (atlas, atlas.with_name(f"{atlas.name}.import")):
        shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    """Kill at every step; the imports are never made in this process, as TileDB's threads do not fork."""
    folder, atlas = Path(sys.argv[1]), Path(sys.argv[2])
    in_child(lambda: act(folder, atlas))  # compiles the kernels
    step, ended = 0, False
    while not ended:
        step += 1
        clear(atlas)
        ended = in_child(lambda at=step: (killing_at(at), act(folder, atlas)))  # type: ignore[misc]
        state = found(atlas)
        in_child(lambda: act(folder, atlas))
        work = atlas.with_name(f"{atlas.name}.import")
        line = {
            "found": state,
            "then": found(atlas),
            "left": [*leftovers(atlas), *([work.name] if work.exists() else [])],
            "resumed": "going on" in atlas.with_name("said").read_text(),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
