"""Lets a writer run out of space at many points; run as a process of its own, from which the writers fork.

``python -m tests.index.filler BASE ATLAS ACTION``: for growing limits to the size of a file, until one
suffices, ATLAS becomes a copy of BASE, a forked process acts on it, and a line of JSON tells how that ended.
"""

import json
import os
import resource
import sys
from pathlib import Path

from insignia_model.errors import InsigniaError

from .crasher import act, found, restore, warm


def outcome(atlas: Path, action: dict[str, list[str]], limit: int) -> str:
    """``done``, or the name of the error, of an act whose files cannot grow beyond ``limit`` bytes."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        answer = "done"
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            act(atlas, action)
        except InsigniaError as error:
            answer = type(error).__name__
        except BaseException as error:
            answer = f"untyped {error!r}"
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    answer = os.read(read, 10_000).decode()
    os.close(read)
    return answer


def names(atlas: Path) -> list[str]:
    """Every file and folder."""
    return sorted(str(path.relative_to(atlas)) for path in atlas.rglob("*")) if atlas.exists() else []


def main() -> None:
    """Double the limit until it suffices."""
    base, atlas, action = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    warm(base, atlas, action)
    limit, answer = 0, ""
    while answer != "done":
        restore(base, atlas)
        before = names(atlas)
        answer = outcome(atlas, action, limit)
        same = names(atlas) == before
        print(json.dumps({"limit": limit, "answer": answer, "same": same, "found": found(atlas)}), flush=True)
        limit = limit * 3 // 2 + 64


if __name__ == "__main__":
    main()
