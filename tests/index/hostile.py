"""Asks damaged atlases everything; run as a process of its own, which may die.

``python -m tests.index.hostile ATLAS`` answers line by line with the line, what came of asking, and what came
of `verify`. A line is the path of another atlas; or a change to a file of this one, ``FILE OFFSET HEX`` or
``FILE truncate SIZE`` (separated by tabs), which is undone afterwards.
"""

import json
import sys
from pathlib import Path
from typing import Any

from insignia_index import Atlas
from insignia_index.catalog.store import _Environment
from insignia_index.verify import verify_atlas
from insignia_model.errors import AtlasError


def everything(path: Path) -> dict[str, Any]:
    """All that an atlas can be asked, as JSON."""
    with Atlas.open(path, threads=1) as atlas:
        genes = [f"G{i}" for i in range(60)]
        known = list(atlas.genes(genes).resolved)
        result = atlas.search(genes, k=1000, group_by=("study", "tissue"), quantiles=True)
        cells = [*result.cell_table.rows()]
        return {
            "genes": known,
            "scores": [atlas.scores([gene]).values.tolist() for gene in known[::7]],
            "cells": cells,
            "groups": [*result.group_table.rows()],
            "samples": [*result.sample_table.rows()],
            "filtered": atlas.search(genes[:40], where={"tissue": "lung"}, min_coverage=0.5).n_cells,
            "fields": [repr(field) for field in atlas.fields()],
            "studies": [repr(about) for about in atlas.studies()],
            "found": [*atlas.cells([(row["study"], row["cell_id"]) for row in cells]).rows()],
        }


def outcome(action: Any, *arguments: Any) -> str:
    """``ok``, ``wrong``, or the name of the error."""
    try:
        return "ok" if action(*arguments) else "wrong"
    except AtlasError as error:
        return type(error).__name__
    except BaseException as error:
        return f"untyped {error!r}"


def change(file: Path, offset: str, data: str) -> None:
    """Write over a part of a file, or set its size."""
    with file.open("r+b") as handle:
        if offset == "truncate":
            handle.truncate(int(data))
        else:
            handle.seek(int(offset))
            handle.write(bytes.fromhex(data))


def ask(path: Path, wanted: str) -> str:
    """What comes of asking everything, and of `verify`."""
    before = len(_Environment._opened)  # other tests may have an atlas open
    asked = outcome(lambda: json.dumps(everything(path)) == wanted)
    verified = outcome(verify_atlas, path)
    return f"{asked if len(_Environment._opened) == before else 'left open'}\t{verified}"


def main() -> None:
    """Answer line by line."""
    path = Path(sys.argv[1])
    wanted = json.dumps(everything(path))
    for line in sys.stdin:
        name, *edit = line.rstrip("\n").split("\t")
        if not edit:
            print(line.rstrip("\n"), ask(Path(name), wanted), sep="\t", flush=True)
            continue
        before = (path / name).read_bytes()
        change(path / name, *edit)
        print(line.rstrip("\n"), ask(path, wanted), sep="\t", flush=True)
        (path / name).write_bytes(before)


if __name__ == "__main__":
    main()
