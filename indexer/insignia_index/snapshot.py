"""One revision of an atlas: its studies in order, their mapped shards, their metadata columns.

Rows are numbered over the whole snapshot: study after study in the order of their names, cells in
the order of their file. This order breaks ties.
"""

from __future__ import annotations

import threading
import weakref
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from insignia_index.catalog.catalog import SHARDS, open_catalog, read_gene_table
from insignia_index.catalog.columns import CellIds, decode_column
from insignia_index.catalog.field_index import CellIdIndex, FieldIndex, index_fields
from insignia_index.catalog.records import StudyRecord
from insignia_index.catalog.store import Store
from insignia_index.format.files import bytes_digest
from insignia_index.format.reader import Shard
from insignia_index.genes.resolver import Resolver
from insignia_index.genes.table import GeneTable
from insignia_index.kernels.check import FAULTS, check_genes
from insignia_index.kernels.directory import FIRST_ROW, N_CELLS, TABLE_COLUMNS
from insignia_model.errors import AtlasCorrupt, StudyNotFound
from insignia_model.table import Column


class Snapshot:
    """Immutable, except that it remembers what was already checked or decoded. Safe for many threads."""

    def __init__(self, atlas: Path, store: Store, earlier: Snapshot | None = None) -> None:
        self.atlas = atlas
        self._transaction, catalog = open_catalog(store)
        # a search may outlast the snapshot's place as the current one: the view ends with its last user
        self._release = weakref.finalize(self, self._transaction.close)
        self.record, self.studies, self.genes = catalog.record, catalog.studies, catalog.genes
        self.shards = self._open_shards(earlier)
        n_cells = np.array([study.n_cells for study in self.studies], np.int64)
        #: first row of each study, and the number of rows at the end
        self.study_starts = np.concatenate([[0], np.cumsum(n_cells)])
        self.n_cells = int(self.study_starts[-1])
        self._build_table()
        self._columns: dict[tuple[int, str], Column | None] = {}
        self._field_indexes: list[FieldIndex] | None = None
        self._cell_ids = CellIdIndex(len(self.studies))
        self._checking = threading.Lock()
        self._checked = np.zeros(len(self.genes), np.bool_)

    def _open_shards(self, earlier: Snapshot | None) -> tuple[Shard, ...]:
        kept = {} if earlier is None else {s.directory.name: s for s in earlier.shards}
        folder = self.atlas / SHARDS
        return tuple(kept.get(study.shard) or self._open_shard(folder, study) for study in self.studies)

    def _open_shard(self, folder: Path, study: StudyRecord) -> Shard:
        shard = Shard(folder / study.shard, study.files)
        fits = shard.n_cells == study.n_cells and shard.n_genes <= len(self.genes)
        if not fits or shard.value_bits != self.record.value_bits:
            raise AtlasCorrupt(shard.path, "its head does not fit the catalog")
        return shard

    def _build_table(self) -> None:
        tables = [shard.table for shard in self.shards]
        n_blocks = [len(table) for table in tables]
        self.table = np.concatenate([np.empty((0, TABLE_COLUMNS), np.int64), *tables])
        self.block_study = np.repeat(np.arange(len(tables)), n_blocks)
        self.table[:, FIRST_ROW] += self.study_starts[self.block_study]
        #: first row of each block, and the number of rows at the end
        self.block_starts = np.concatenate([self.table[:, FIRST_ROW], [self.n_cells]])
        self.block_cells = self.table[:, N_CELLS]

    @property
    def revision(self) -> int:
        """Number of the revision."""
        return self.record.revision

    @cached_property
    def is_unsigned(self) -> bool:
        """No study has a negative attribution."""
        return not any(study.signed for study in self.studies)

    @cached_property
    def gene_ids(self) -> dict[str, int]:
        """Id of every symbol of the vocabulary that some study measured: a study that is gone leaves its."""
        sets, _ = self._measured
        measured = sets.any(axis=0) if len(sets) else np.ones(len(self.genes), np.bool_)
        if measured.all():
            return {symbol: i for i, symbol in enumerate(self.genes)}
        return {self.genes[i]: i for i in np.flatnonzero(measured).tolist()}

    @cached_property
    def resolver(self) -> Resolver:
        """What other names than those of the vocabulary mean."""
        return Resolver(self.gene_ids, self.gene_table())

    def gene_table(self) -> GeneTable:
        """The names of genes that the atlas carries, or else the human ones."""
        return read_gene_table(self._transaction, self.record, self.atlas)

    @cached_property
    def study_ids(self) -> dict[str, int]:
        """Index of every study."""
        return {record.study: i for i, record in enumerate(self.studies)}

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Names of all metadata fields, in order of first appearance, after ``study``."""
        return tuple({"study": None} | {name: None for s in self.studies for name in s.fields})

    def study_index(self, study: str) -> int:
        """Index of a study; raises `StudyNotFound`."""
        if study not in self.study_ids:
            raise StudyNotFound(study)
        return self.study_ids[study]

    @cached_property
    def _measured(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
        """Distinct sets of measured genes, bool (n_sets, n_genes), and the set of each study.

        Studies of one platform share their set, so that there are few.
        """
        distinct: dict[bytes, int] = {}
        which = [distinct.setdefault(self._measured_bits(s), len(distinct)) for s in self.studies]
        sets = np.zeros((len(distinct), len(self.genes)), np.bool_)
        for bits, i in distinct.items():
            unpacked = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
            n = min(len(unpacked), len(self.genes))
            sets[i, :n] = unpacked[:n]
        return sets, np.array(which, np.intp)

    @property
    def measured_sets(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
        """Distinct sets of measured genes, bool (n_sets, n_genes), and the set of each study (n_studies,)."""
        return self._measured

    def _measured_bits(self, study: StudyRecord) -> bytes:
        raw = self._value(study, f"genes/{study.shard}", study.genes_digest, "measured genes")
        # a vocabulary that has grown since pads with zeros; equal sets must compare equal
        return bytes(raw).rstrip(b"\0")

    def _value(self, study: StudyRecord, key: str, digest: str, what: str) -> memoryview:
        raw = self._transaction.get(key)
        if raw is None or bytes_digest(raw) != digest:
            problem = "missing" if raw is None else "not as they were written"
            raise AtlasCorrupt(self.atlas, f"the {what} of study {study.study!r} are {problem}")
        return raw

    def n_genes_measured(self, gene_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many of the genes each study measured, int64 (n_studies,)."""
        sets, which = self._measured
        if len(sets) == 1:
            return np.full(len(which), np.count_nonzero(sets[0].take(gene_ids)), np.int64)
        counts: npt.NDArray[np.int64] = sets[:, gene_ids].sum(axis=1, dtype=np.int64)[which]
        return counts

    def cell_fields(self, study: npt.NDArray[np.int64], row: npt.NDArray[np.int64]) -> dict[str, Column]:
        """Every field of the cells (study[i], row[i]), int64 (n,), in order."""
        if self._field_indexes is None:
            of_studies = range(len(self.studies))
            columns = {field: [self.column(s, field) for s in of_studies] for field in self.fields}
            self._field_indexes = index_fields(columns)
        found: dict[str, Column] = {}
        for index in self._field_indexes:
            found |= index.take(study, row)
        return {field: found[field] for field in self.fields}

    def column(self, study: int, field: str) -> Column | None:
        """One study's column of a field, None if the study lacks it."""
        key = (study, field)
        if key not in self._columns:
            self._columns[key] = self._decode(self.studies[study], field)
        return self._columns[key]

    def _decode(self, study: StudyRecord, field: str) -> Column | None:
        if field == "study":
            return Column("category", np.zeros(study.n_cells, np.int8), [study.study])
        record = study.fields.get(field)
        if record is None:
            return None
        raw = self._transaction.get(f"column/{study.shard}/{field}")
        dictionary = self._transaction.get(f"dictionary/{study.shard}/{field}") or b""
        if raw is None:
            raise AtlasCorrupt(self.atlas, f"field {field!r} of study {study.study!r} is missing")
        try:
            column = decode_column(record, raw, dictionary, study.n_cells)
            # without a value it has no kind either, and other studies may have another
            return column if record.n_missing < study.n_cells else None
        except ValueError as error:
            problem = f"field {field!r} of study {study.study!r} is damaged ({error})"
            raise AtlasCorrupt(self.atlas, problem) from error

    def cell_ids(self, study: int) -> CellIds:
        """Cell ids of a study."""
        return self._cell_ids.of(study, self._load_cell_ids)

    def cell_names(self, study: npt.NDArray[np.int64], row: npt.NDArray[np.int64]) -> list[str]:
        """Ids of the cells (study[i], row[i])."""
        return self._cell_ids.take(study, row, self._load_cell_ids)

    def _load_cell_ids(self, study: int) -> CellIds:
        record = self.studies[study]
        raw = self._value(record, f"cells/{record.shard}", record.cells_digest, "cell ids")
        try:
            return CellIds(raw, record.n_cells)
        except ValueError as error:
            raise AtlasCorrupt(self.atlas, f"study {record.study!r}: {error}") from error

    def check_metadata(self, study: int) -> None:
        """Read all that the catalog holds of a study; raises `AtlasCorrupt`."""
        self.cell_ids(study)
        self._measured_bits(self.studies[study])
        for field in self.studies[study].fields:
            self.column(study, field)

    def check_genes(self, gene_ids: npt.NDArray[np.int64]) -> None:
        """Check the containers of genes that nobody has asked for yet; raises `AtlasCorrupt`."""
        if self._checked[gene_ids].all():
            return
        with self._checking:
            for study, shard in enumerate(self.shards):
                known = gene_ids[gene_ids < shard.n_genes]
                fresh = known[~shard.checked[known]]
                if len(fresh):
                    self._check_shard(study, shard, fresh)
                    shard.checked[fresh] = True
            self._checked[gene_ids] = True

    def unchecked(self, gene_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Those of the genes whose containers nobody has checked yet."""
        return gene_ids[~self._checked[gene_ids]]

    def check_in_block(self, block: int, gene_ids: npt.NDArray[np.int64]) -> None:
        """Check containers of genes in one block of the table; raises `AtlasCorrupt`.

        Takes no lock, so that several threads may share the blocks: who has seen them all marks the genes.
        """
        study = int(self.block_study[block])
        shard, place = self.shards[study], block - int(self.block_study.searchsorted(study))
        self._check_shard(study, shard, gene_ids[gene_ids < shard.n_genes], np.array([place]))

    def mark_checked(self, gene_ids: npt.NDArray[np.int64]) -> None:
        """Remember genes whose containers were checked in every block."""
        with self._checking:
            for shard in self.shards:
                shard.checked[gene_ids[gene_ids < shard.n_genes]] = True
            self._checked[gene_ids] = True

    def check_study(self, study: int) -> None:
        """Check all containers of a study that nobody has asked for yet; raises `AtlasCorrupt`."""
        shard = self.shards[study]
        with self._checking:
            fresh = np.flatnonzero(~shard.checked)
            if len(fresh):
                self._check_shard(study, shard, fresh)
                shard.checked[:] = True

    def check_block(self, block: int) -> None:
        """Check all containers of a block of the table that nobody has checked yet; raises `AtlasCorrupt`."""
        study = int(self.block_study[block])
        shard, place = self.shards[study], block - int(self.block_study.searchsorted(study))
        if shard.checked_blocks[place]:
            return
        with self._checking:
            fresh = np.flatnonzero(~shard.checked)
            if len(fresh):
                self._check_shard(study, shard, fresh, np.array([place]))
            shard.checked_blocks[place] = True

    def _check_shard(
        self,
        study: int,
        shard: Shard,
        gene_ids: npt.NDArray[np.int64],
        blocks: npt.NDArray[np.int64] | None = None,
    ) -> None:
        blocks = np.arange(len(shard.table)) if blocks is None else blocks
        fault, block, gene = check_genes(shard.table, blocks, gene_ids, shard.value_bits // 8)
        if fault:
            name = self.studies[study].study
            raise AtlasCorrupt(
                shard.path, f"study {name!r}, block {block}, gene {self.genes[gene]}: {FAULTS[fault]}"
            )

    def close(self) -> None:
        """Let go of the catalog's view, as happens when nobody refers to the snapshot any more."""
        self._columns.clear()
        self._field_indexes = None
        self._cell_ids = CellIdIndex(len(self.studies))
        self._release()
