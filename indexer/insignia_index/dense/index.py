"""FAISS indexes of one study, and the lists that the studies of an atlas share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.dense.codec import Codec
from insignia_index.dense.rows import Rows
from insignia_index.format.reader import Shard
from insignia_index.kernels.directory import N_CELLS
from insignia_index.kernels.row_writer import dense_block
from insignia_model.errors import AtlasCorrupt, EngineUnavailable

Floats = npt.NDArray[np.float32]

#: Projected studies with fewer cells are stored without lists: the lists' centres would be most of the file.
LARGE_STUDY = 16_384
#: Projected cells below which a scan of all is as fast as lists.
_WORTH_LISTS = 20_000
_CELLS_A_LIST = 800
_MOST_LISTS = 16_384
#: Of every list, so that k-means has something to go by; FAISS warns below 39.
_TRAINING_A_LIST = 40
#: Share of the lists that a search visits; FAISS on a GPU visits at most 2,048.
_PROBED = 8
_CHUNK = 16_384
#: Of 8 bits.
LARGEST_CODE = 255


def faiss_module() -> Any:
    """The module, or `EngineUnavailable`."""
    try:
        import faiss
    except ImportError as error:
        raise EngineUnavailable(
            "faiss", "faiss is not installed here", "pip install 'insignia[faiss]'"
        ) from error
    return faiss


@contextmanager
def one_thread(faiss: Any) -> Iterator[None]:
    """FAISS keeps to the calling thread: searches already come on several.

    The number is OpenMP's, which torch and others of the process share on this thread: it is put back.
    """
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def lists_for(n_cells: int) -> int:
    """How many lists suit so many projected cells; 0: none."""
    if n_cells < _WORTH_LISTS:
        return 0
    return min(_MOST_LISTS, 1 << round(math.log2(n_cells / _CELLS_A_LIST)))


def training_cells(n_lists: int) -> int:
    """Projections that the lists are learned from."""
    return _TRAINING_A_LIST * n_lists


def probes(n_lists: int) -> int:
    """Lists that a search visits."""
    return max(1, n_lists // _PROBED)


def train_lists(projections: Floats, n_lists: int) -> Any:
    """An empty inverted file over the projections' directions.

    Inner product is no distance: the longest cells would draw all centres of ordinary k-means. Spherical
    k-means goes by direction, and a search visits the lists of the largest inner products.
    """
    faiss = faiss_module()
    d = projections.shape[1]
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(d), d, n_lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.by_residual = False  # so that the codes of one cell are the same in any list, and shards merge
    index.cp.spherical = True
    index.cp.seed = 1
    index.nprobe = probes(n_lists)
    index.train(projections)
    return index


def flat_index(d: int) -> Any:
    """An empty index without lists, of float16 projections."""
    faiss = faiss_module()
    return faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def coded_lists(lists: Any, low: Floats, step: Floats) -> Any:
    """An empty inverted file over the centres of another, of 8-bit codes: x is low + step * (code + 0.5)."""
    faiss = faiss_module()
    centres = lists.quantizer.reconstruct_n(0, lists.nlist)
    quantizer = faiss.IndexFlatIP(lists.d)
    quantizer.add(centres)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, lists.d, lists.nlist, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    quantizer.this.disown()
    index.own_fields = True
    index.by_residual = False
    index.nprobe = lists.nprobe
    # what it would learn from the cells, were they all in memory
    faiss.copy_array_to_vector(np.concatenate([low, np.float32(LARGEST_CODE) * step]), index.sq.trained)
    index.is_trained = True
    return index


def stored(index: Any) -> Iterator[tuple[int | None, npt.NDArray[np.int64], Floats]]:
    """The cells of a study's index, some at a time: their list, places int64 (n,) and projections (n, d)."""
    faiss = faiss_module()
    if not hasattr(index, "nlist"):
        for first in range(0, index.ntotal, _CHUNK):
            n = min(_CHUNK, index.ntotal - first)
            yield None, np.arange(first, first + n), index.reconstruct_n(first, n)
        return
    lists = index.invlists
    for i in range(index.nlist):
        n = lists.list_size(i)
        if n:
            codes = faiss.rev_swig_ptr(lists.get_codes(i), n * lists.code_size)
            projections = codes.view(np.float16).reshape(n, index.d).astype(np.float32)
            yield i, faiss.rev_swig_ptr(lists.get_ids(i), n).copy(), projections


def add_to_lists(
    index: Any, projections: Floats, rows: npt.NDArray[np.int64], which: int | None = None
) -> None:
    """Add projections (n, d) to the list ``which``; None: to those whose centres are nearest."""
    faiss = faiss_module()
    projections = np.ascontiguousarray(projections, np.float32)
    if which is None:
        index.add_with_ids(projections, rows)
        return
    lists = np.full(len(rows), which, np.int64)
    pointers = [faiss.swig_ptr(array) for array in (projections, rows, lists)]
    index.add_core(len(rows), *pointers)


def write_projected(path: Path, rows: Rows, codec: Codec, lists: Path | None) -> float:
    """Write the index of a study's projections; returns the share of the squared norm that they keep."""
    large = lists is not None and rows.n_cells >= LARGE_STUDY
    index = read_index(lists) if large and lists else flat_index(codec.n_dimensions)
    kept, whole = 0.0, 0.0
    for first in range(0, rows.n_cells, _CHUNK):
        cells = np.arange(first, min(first + _CHUNK, rows.n_cells))
        projections, squares = rows.project(codec.components, cells)
        kept += float(np.square(projections, dtype=np.float64).sum())
        whole += float(squares.sum())
        index.add(projections * np.float32(codec.scale))
    faiss_module().write_index(index, str(path))
    return kept / whole if whole else 1.0


def write_exact(path: Path, shard: Shard, genes: npt.NDArray[np.int64]) -> None:
    """Write the `IndexFlatIP` of a study in the space of its measured ``genes`` int64 (n,), ascending."""
    faiss = faiss_module()
    index = faiss.IndexFlatIP(len(genes))
    for row in shard.table:
        dense = np.zeros((int(row[N_CELLS]), len(genes)), np.float32)
        dense_block(row, genes, shard.value_bits == 16, dense)
        index.add(dense)
    faiss.write_index(index, str(path))


def read_index(path: Path) -> Any:
    """A FAISS index whose file's digest was compared with the catalog's."""
    try:
        return faiss_module().read_index(str(path))
    except RuntimeError as error:
        raise AtlasCorrupt(path, f"FAISS cannot read it ({error})") from error
