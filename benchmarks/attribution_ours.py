"""Time our integrated gradients of prepared cells, in a process of its own: MODEL CELLS.npz OUT.npz."""

import json
import statistics
import sys

import scipy.sparse as sp

from insignia_index.attribution import Attributor, load_model
from timing import timed

REPEATS = 5


def main() -> None:
    """Print the seconds of all cells: the median of some runs, after one to warm up."""
    model, cells, out = sys.argv[1:]
    attributor = Attributor(load_model(model))
    matrix = sp.csr_matrix(sp.load_npz(cells))
    sp.save_npz(out, attributor.attribute(matrix))
    seconds = statistics.median(timed(lambda: attributor.attribute(matrix)) for _ in range(REPEATS))
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
