"""One screen in a process of its own, for its peak memory: ATLAS LIBRARY.json THREADS hits|means."""

import json
import resource
import sys
import time
from pathlib import Path

from insignia_index import Atlas


def peak_bytes() -> int:
    """Return the peak of this process; `getrusage` has that of the one which started it, if it was larger."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Print what it took, as JSON."""
    path, library, threads, how = sys.argv[1:]
    sets = json.loads(Path(library).read_text())
    with Atlas.open(path, threads=int(threads)) as atlas:
        atlas.warm()
        hits = "percentile:95" if how == "hits" else None
        # compiled kernels and loaded postings are not what is measured; a screen of all genes loads them
        for _ in atlas.screen(dict(list(sets.items())[:2]), group_by=("study", "sample"), hits=hits):
            pass
        began = time.perf_counter()
        n_rows = sum(
            len(chunk.table) for chunk in atlas.screen(sets, group_by=("study", "sample"), hits=hits)
        )
        seconds = time.perf_counter() - began
    figures = {"seconds": seconds, "peak_bytes": peak_bytes(), "n_signatures": len(sets), "n_rows": n_rows}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
