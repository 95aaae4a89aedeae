"""Time sc-signature's integrated gradients of prepared cells, and keep them.

    .venv-peer/bin/python benchmarks/peer/run_attribution.py MODEL CELLS.npz OUT.npz

Prints one JSON object.
"""

import json
import sys
import time
import warnings

import scipy.sparse as sp
from SIGnature.models.scimilarity import SCimilarityWrapper


def main() -> None:
    """Print the seconds of all cells, after a few to warm up."""
    model, cells, out = sys.argv[1:]
    wrapper = SCimilarityWrapper(model)
    matrix = sp.csr_matrix(sp.load_npz(cells))
    warnings.simplefilter("ignore")
    wrapper.calculate_attributions(matrix[:5], method="ig", disable_tqdm=True)
    began = time.perf_counter()
    found = wrapper.calculate_attributions(matrix, method="ig", disable_tqdm=True)
    seconds = time.perf_counter() - began
    sp.save_npz(out, found.tocsr())
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
