"""The FAISS indexes of a snapshot's studies, merged into few that stay in memory, and their search."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.dense.codec import Codec
from insignia_index.dense.index import (
    LARGEST_CODE,
    add_to_lists,
    coded_lists,
    faiss_module,
    flat_index,
    one_thread,
    probes,
    read_index,
    stored,
)
from insignia_index.kernels.project import inner_products

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Passing = npt.NDArray[np.bool_]

#: Projections by which the score of the n-th best cell is guessed.
_PROBES = 4_096
#: Of them that must be among the best, for the guess to be worth anything.
_LEAST_PROBES = 24
#: Of a range search that gave fewer cells by more than this factor, the guess was bad.
_NEAR = 1.25


@dataclass(frozen=True, slots=True)
class Part:
    """A study's index file; ``first_row``: of its cells in the snapshot."""

    path: Path
    first_row: int
    n_cells: int


class Projected:
    """All projected studies of a snapshot as one index. Safe for many threads.

    With lists, projections have 8 bits a dimension in memory, between the extremes of all that are there: so
    none is clipped, and they find what float16 ones find in half of the bytes. A search asks for all cells
    above a score rather than for the best n: FAISS keeps a heap for those, which takes longer than the scan.
    The score is guessed from a sample of the projections.
    """

    def __init__(self, codec: Codec, lists: Path | None, parts: Sequence[Part]) -> None:
        self._faiss = faiss_module()
        self.codec = codec
        self.n_cells = sum(part.n_cells for part in parts)
        self.n_lists = 0
        self._rows = np.concatenate([np.arange(p.first_row, p.first_row + p.n_cells) for p in parts])
        #: of the codes, in which x is low + step * (code + 0.5)
        self.low, self.step = np.empty(0, np.float32), np.empty(0, np.float32)
        self._lists = None if lists is None else read_index(lists)
        if self._lists is None:
            self._empty = flat_index(codec.n_dimensions)
        else:
            self.n_lists = int(self._lists.nlist)
            self.low, self.step = _range_of(parts, codec.n_dimensions)
            self._empty = coded_lists(self._lists, self.low, self.step)
        self._index = self._faiss.clone_index(self._empty)
        stride = max(1, self.n_cells // _PROBES)
        sampled: list[tuple[Ints, Floats]] = []
        for part in parts:
            index = read_index(part.path)
            at = np.arange(-part.first_row % stride, part.n_cells, stride)
            sampled.append((part.first_row + at, _reconstructed(index, at)))
            if self._lists is None:
                self._index.merge_from(index)
            else:
                for some, cells, projections in stored(index):
                    add_to_lists(self._index, projections, part.first_row + cells, some)
        self._probe_rows = np.concatenate([rows for rows, _ in sampled])
        self._probes = np.concatenate([projections for _, projections in sampled])

    def lists(self) -> tuple[npt.NDArray[np.uint64], Ints]:
        """Of each list: the address of its rows int64 (size,), and its size."""
        found = self._index.invlists
        every = range(self.n_lists)
        sizes = np.array([found.list_size(i) for i in every], np.int64)
        return np.array([int(found.get_ids(i)) if sizes[i] else 0 for i in every], np.uint64), sizes

    def rows_of_list(self, which: int) -> Ints:
        """Rows of a list's cells, int64 (size,)."""
        found = self._index.invlists
        n = found.list_size(which)
        if not n:
            return np.empty(0, np.int64)
        rows: Ints = self._faiss.rev_swig_ptr(found.get_ids(which), n).copy()
        return rows

    def codes_of_list(self, which: int) -> npt.NDArray[np.uint8]:
        """Codes of a list's cells, uint8 (size, n_dimensions)."""
        found = self._index.invlists
        n, d = found.list_size(which), self.codec.n_dimensions
        if not n:
            return np.empty((0, d), np.uint8)
        codes: npt.NDArray[np.uint8] = self._faiss.rev_swig_ptr(found.get_codes(which), n * d).reshape(n, d)
        return codes

    def centres(self) -> Floats:
        """Of the lists, float32 (n_lists, n_dimensions)."""
        found: Floats = self._index.quantizer.reconstruct_n(0, self.n_lists)
        return found

    def candidates(
        self, projection: Floats, n: int, passing: Passing | None = None, n_passing: int | None = None
    ) -> tuple[Ints, Floats]:
        """Rows int64 (m,) and projected scores float32 of about the ``n`` best cells that pass; m is near n.

        ``projection`` float32 (n_dimensions,), as `Codec.project` gives it; ``passing`` bool (n_cells of the
        snapshot,), of which ``n_passing`` projected cells pass.
        """
        query = np.ascontiguousarray(projection[None] / np.float32(self.codec.scale))
        n_passing = self.n_cells if n_passing is None else n_passing
        if n_passing == 0 or n == 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        selector, bits = self._selector(passing)
        parameters = self._parameters(selector, self.n_probe(n, n_passing))
        # without lists a range search of FAISS decodes cell by cell: 13 ms where the best n take 0.2
        bound = self._bound(query[0], n, passing, n_passing) if self.n_lists else None
        if bound is not None:
            with one_thread(self._faiss):
                _, scores, found = self._index.range_search(query, bound, params=parameters)
            rows, scores = self.passing(found, scores, passing)
            if len(rows) > 2 * n:
                best = np.argpartition(-scores, n)[:n]
                rows, scores = rows[best], scores[best]
            if len(rows) * _NEAR >= min(n, n_passing):
                return rows, scores
        with one_thread(self._faiss):
            scores, found = self._index.search(query, min(n, n_passing), params=parameters)
        del bits  # the selector looks at it
        return self.passing(found[0], scores[0], passing)

    def n_probe(self, n: int, n_passing: int) -> int:
        """Lists to visit: those that hold twice ``n`` cells that pass, wherever they lie; 0: no lists."""
        share = 2 * n / max(1, n_passing)
        return min(self.n_lists, max(probes(self.n_lists), math.ceil(share * self.n_lists)))

    def parts(self, n_parts: int) -> Iterator[Any]:
        """Indexes of even shares of the cells, for a device: by what is left of an id modulo ``n_parts``.

        With lists the ids are those of `passing`. Without, they are places among the part's cells, and the
        vectors float32: FAISS has no flat scalar quantiser on a GPU.
        """
        faiss = self._faiss
        for part in range(n_parts):
            if self.n_lists:
                index = faiss.clone_index(self._empty)
                self._index.copy_subset_to(index, faiss.InvertedLists.SUBSET_TYPE_ID_MOD, n_parts, part)
                yield index
            else:
                index = faiss.IndexFlatIP(self.codec.n_dimensions)
                index.add(_reconstructed(self._index, np.arange(part, self.n_cells, n_parts)))
                yield index

    def _parameters(self, selector: Any, n_probe: int) -> Any:
        faiss = self._faiss
        if not self.n_lists:
            return faiss.SearchParameters(sel=selector)
        return faiss.SearchParametersIVF(sel=selector, nprobe=n_probe)

    def _selector(self, passing: Passing | None) -> tuple[Any, npt.NDArray[np.uint8] | None]:
        """FAISS's selector of the cells that pass, and the bits that must outlive it."""
        if passing is None:
            return None, None
        by_id = passing if self.n_lists else passing[self._rows]  # without lists, ids are places
        bits = np.packbits(by_id, bitorder="little")
        return self._faiss.IDSelectorBitmap(len(bits), self._faiss.swig_ptr(bits)), bits

    def _bound(self, query: Floats, n: int, passing: Passing | None, n_passing: int) -> float | None:
        """A score that about ``n`` of the cells that pass exceed; None if too few of the sample tell."""
        sample = self._probes if passing is None else self._probes[passing[self._probe_rows]]
        rank = round(len(sample) * n / n_passing)
        if not _LEAST_PROBES <= rank < len(sample):
            return None
        scores = np.empty(len(sample), np.float32)
        inner_products(sample, query, scores)
        return float(np.partition(scores, len(scores) - rank)[len(scores) - rank])

    def passing(self, found: Ints, scores: Floats, passing: Passing | None) -> tuple[Ints, Floats]:
        """Rows of the snapshot; nothing that the filter leaves out, whatever FAISS made of its selector."""
        kept = found >= 0
        rows: Ints = found if self.n_lists else self._rows[found]
        if passing is not None:
            kept &= passing[np.where(kept, rows, 0)]
        return rows[kept], scores[kept]


#: Cells of a panel that are looked at at once.
_CHUNK_CELLS = 4096


class Panel:
    """Studies that measured the same genes, as one `IndexFlatIP` in the space of those genes."""

    def __init__(self, genes: Ints, parts: Sequence[Part]) -> None:
        self._faiss = faiss_module()
        self.genes = genes
        self.rows = np.concatenate([np.arange(p.first_row, p.first_row + p.n_cells) for p in parts])
        self._index = self._faiss.IndexFlatIP(len(genes))
        for part in parts:
            self._index.merge_from(read_index(part.path))
        self._largest = self._largest_values()

    def _largest_values(self) -> Floats:
        """Largest absolute value of each gene, float32 (n_genes,)."""
        largest = np.zeros(len(self.genes), np.float32)
        for first in range(0, len(self.rows), _CHUNK_CELLS):
            values = self.values(self.rows[first : first + _CHUNK_CELLS])
            np.maximum(largest, np.abs(values).max(axis=0), out=largest)
        return largest

    def _rounding(self, query: Floats) -> float:
        """Bound of the error of FAISS's scores, whose terms may cancel: Higham's for a sum in any order."""
        terms = float(np.abs(query[0].astype(np.float64)) @ self._largest)
        n_terms = int(np.count_nonzero(query)) + 2  # and the roundings of a weight and of a product
        return n_terms * float(np.finfo(np.float32).eps) * terms

    def best(self, weights: npt.NDArray[np.float64], n: int, passing: Passing | None = None) -> Ints:
        """Rows of the ``n`` best cells that pass and of all that tie with the last; ``weights`` by gene."""
        faiss = self._faiss
        query = np.zeros((1, len(self.genes)), np.float32)
        known = self.genes < len(weights)
        query[0, known] = weights[self.genes[known]]
        here = None if passing is None else passing[self.rows]
        n_passing = len(self.rows) if here is None else int(np.count_nonzero(here))
        n = min(n, n_passing)
        if n == 0:
            return np.empty(0, np.int64)
        selector, bits = None, None
        if here is not None:
            bits = np.packbits(here, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        parameters = faiss.SearchParameters(sel=selector)
        with one_thread(faiss):
            scores, _ = self._index.search(query, n, params=parameters)
        # FAISS breaks ties and rounds as it likes: take all that could be among the best
        last = float(scores[0, -1])
        slack = 2 * self._rounding(query) + np.finfo(np.float32).tiny
        with one_thread(faiss):
            _, _, found = self._index.range_search(query, last - slack, params=parameters)
        del bits
        if here is not None:
            found = found[here[found]]
        rows: Ints = self.rows[found]
        return rows

    def values(self, rows: Ints) -> Floats:
        """Attributions of the rows, float32 (n, n_genes)."""
        at = np.searchsorted(self.rows, rows)
        return _reconstructed(self._index, at)


def _range_of(parts: Sequence[Part], d: int) -> tuple[Floats, Floats]:
    """Least value of each dimension, and the 256th part of the range, float32 (d,)."""
    low, high = np.full(d, np.inf, np.float32), np.full(d, -np.inf, np.float32)
    for part in parts:
        for _, _, projections in stored(read_index(part.path)):
            low = np.minimum(low, projections.min(axis=0))
            high = np.maximum(high, projections.max(axis=0))
    return low, (high - low) / np.float32(LARGEST_CODE)


def _reconstructed(index: Any, at: Ints) -> Floats:
    """Vectors of a study's index at places int64 (n,), float32 (n, d)."""
    if not len(at):
        return np.empty((0, index.d), np.float32)
    if not hasattr(index, "nlist"):
        found: Floats = index.reconstruct_batch(at)
        return found
    index.make_direct_map()
    found = index.reconstruct_batch(at)
    index.set_direct_map_type(faiss_module().DirectMap.NoMap)  # with which no index can be merged
    return found
