"""Signatures and cells whose answers tell what recall to expect."""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np
import numpy.typing as npt

from insignia_model import Signature, read_gmt

#: Sizes of the random signatures.
_RANDOM_SIZES = (5, 10, 20, 50, 100, 200)
_RANDOM = 18


def reference_signatures() -> list[Signature]:
    """Those of ``reference.gmt``; ``reference.md`` beside it says where they come from."""
    with as_file(files(__package__).joinpath("reference.gmt")) as path:
        return list(read_gmt(path).values())


def random_signatures(detection: npt.NDArray[np.float64], seed: int = 0) -> list[npt.NDArray[np.int64]]:
    """Gene ids of random sets, drawn by ``detection`` (n_genes,): how many cells have each gene."""
    rng = np.random.default_rng([seed, 1])
    share = detection / detection.sum()
    most = int(np.count_nonzero(detection))
    sizes = [min(_RANDOM_SIZES[i % len(_RANDOM_SIZES)], most) for i in range(_RANDOM)]
    return [np.sort(rng.choice(len(share), size, replace=False, p=share)) for size in sizes]
