"""Importing what sc-signature publishes: arrays by cell type and gene, regrouped by study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from insignia_index.build.ahead import one_ahead
from insignia_index.build.build import AtlasBuild, BuildOptions, BuildReport, opened_build
from insignia_index.build.errors import NotFiniteValue, ShapeMismatch
from insignia_index.build.inputs import InputFile
from insignia_index.build.obs import cell_ids, field_columns
from insignia_index.build.progress import Progress, SilentProgress
from insignia_index.build.signature.array import READ_ENTRIES, SignatureArray, open_array
from insignia_index.build.signature.cell_rows import CellRows, read_study, write_cell_rows
from insignia_index.build.signature.cells import Cells, scan_cells
from insignia_index.build.signature.folders import (
    METADATA,
    Folder,
    common_root,
    find_folders,
    find_gene_order,
)
from insignia_index.build.signature.journal import Journal, remove_journal
from insignia_index.build.signature.regroup import (
    CHUNK_CELLS,
    CHUNK_ENTRIES,
    Buckets,
    Regrouped,
    study_chunks,
)
from insignia_index.build.study import StudyRows
from insignia_index.build.tables import read_genes, read_table
from insignia_index.format.files import bytes_digest, file_digest
from insignia_model.errors import InputError, InvalidArgument
from insignia_model.table import Column


@dataclass(frozen=True, slots=True)
class SignatureFolders:
    """What is imported and how it is read.

    ``paths``: folders of cell types, or folders that hold such. ``gene_order``: the genes of the arrays, one
    a line; None: gene_order.tsv in or beside the folders. The fields are those of an `InputFile`.
    """

    paths: Sequence[Path]
    gene_order: Path | None = None
    metadata_name: str = METADATA
    study_field: str = "study"
    sample_field: str | None = None
    drop_fields: tuple[str, ...] = ()


def import_signature(
    path: str | Path,
    source: SignatureFolders,
    options: BuildOptions | None = None,
    *,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> BuildReport:
    """Add the studies of all folders to an atlas as one new revision, or raise and change nothing.

    A study's cells are in the order of folder and row. What is regrouped is kept in ``path`` + ".import"
    until the studies are published, so that the same import, started again, goes on from there, which
    ``say`` is told.
    """
    path, options = Path(path), options or BuildOptions()
    inputs = _Inputs.read(source)
    options = replace(options, default_pseudobulk=("sample", inputs.cells.folder_field))
    work = path.with_name(path.name + ".import")
    with opened_build(path, options, progress) as session:
        wanted = inputs.wanted(session)
        if wanted.any():
            _Import(inputs, wanted, session, work, say).run(progress or SilentProgress())
        report = session.publish()
        with suppress(InvalidArgument):  # a directory that is none of ours
            remove_journal(work)
        return report


@dataclass(frozen=True)
class _Inputs:
    """The folders, checked as far as can be without reading the arrays."""

    root: Path
    folders: list[Folder]
    genes: list[str]
    genes_digest: str
    cells: Cells

    @classmethod
    def read(cls, source: SignatureFolders) -> _Inputs:
        folders = find_folders(source.paths, source.metadata_name)
        gene_order = find_gene_order(source.gene_order, folders)
        genes = read_genes(gene_order)
        root = common_root(folders)
        options = InputFile(
            root,
            study_field=source.study_field,
            sample_field=source.sample_field,
            drop_fields=source.drop_fields,
        )
        for folder in folders:
            with open_array(folder.array) as array:
                if array.n_genes != len(genes):
                    raise ShapeMismatch(gene_order, "the gene order", len(genes), array.n_genes)
        cells = scan_cells(folders, options)
        for folder, study_of in zip(folders, cells.study_of, strict=True):
            with open_array(folder.array) as array:
                array.check_cells(folder.metadata, len(study_of))
        return cls(root, folders, genes, file_digest(gene_order), cells)

    def digest(self, study: int, value_dtype: str) -> str:
        """Digest of all that decides what is stored of a study."""
        return "-".join([self.cells.digest(study, self.folders), self.genes_digest, value_dtype])

    def wanted(self, session: AtlasBuild) -> npt.NDArray[np.bool_]:
        """Which studies are to be built, bool (n_studies,); raises what can be known to go wrong."""
        studies = self.cells.studies
        digests = [self.digest(i, session.value_dtype) for i in range(len(studies))]
        wanted = [session.is_wanted(self.root, *pair) for pair in zip(studies, digests, strict=True)]
        kinds = {study: self.cells.field_kinds(i) for i, study in enumerate(studies) if wanted[i]}
        session.check_kinds(self.root, kinds)
        session.check_needed()
        return np.array(wanted, np.bool_)


class _Import:
    """One run: the arrays are regrouped, then the studies are built."""

    def __init__(
        self,
        inputs: _Inputs,
        wanted: npt.NDArray[np.bool_],
        session: AtlasBuild,
        work: Path,
        say: Callable[[str], None],
    ) -> None:
        self._inputs = inputs
        self._cells = inputs.cells
        self._wanted = wanted
        self._session = session
        self._gene_of_column = session.map_genes(inputs.root, inputs.genes)
        self._journal = Journal(work, self._recipe())
        if self._journal.discarded:
            say(f"{work}: left by an import of other folders, or before they changed: beginning again")
        if self._journal.resumed:
            say(f"{work}: going on where an import stopped")

    def run(self, progress: Progress) -> None:
        """Stage every wanted study."""
        every = range(len(self._inputs.folders))
        try:
            with ExitStack() as files:
                rows = [files.enter_context(closing(self._cell_rows(which))) for which in every]
                # all of the metadata is right before the hours that the arrays may take
                for study in np.flatnonzero(self._wanted).tolist():
                    self._metadata(rows, study)
                arrays = [files.enter_context(closing(self._regrouped(which, progress))) for which in every]
                self._build(arrays, rows, progress)
        except InputError:
            # begun again, it would fail again
            remove_journal(self._journal.path)
            raise

    def _recipe(self) -> str:
        """Digest of what decides how entries are regrouped."""
        digests = [folder.digest for folder in self._inputs.folders]
        sizes = (CHUNK_CELLS, CHUNK_ENTRIES, READ_ENTRIES)
        parts = (digests, self._cells.options.study_field, self._wanted.tolist(), sizes)
        return bytes_digest(repr(parts).encode())

    def _cell_rows(self, which: int) -> CellRows:
        path = self._journal.path / f"cells-{which}.parquet"
        return write_cell_rows(path, self._cells, which, self._inputs.folders[which], self._wanted)

    def _regrouped(self, which: int, progress: Progress) -> Regrouped:
        folder, study_of = self._inputs.folders[which], self._cells.study_of[which]
        name = f"entries-{which}.bin"
        with open_array(folder.array) as array:
            buckets = Buckets(study_of, self._wanted, array.n_stored)
            regrouped = Regrouped(self._journal.path / name, buckets, array.n_genes)
            try:
                done = regrouped.resume(self._journal.done(name))
                with _cells_of_genes(progress, folder.name, len(study_of), array) as advance:
                    advance(done.next_gene)
                    regrouped.run(
                        array,
                        done,
                        lambda now: self._journal.record(name, now),
                        lambda cell: self._not_finite(which, cell),
                        advance,
                    )
            except BaseException:
                regrouped.close()
                raise
        return regrouped

    def _not_finite(self, which: int, cell: int) -> NotFiniteValue:
        folder = self._inputs.folders[which]
        study = self._cells.studies[self._cells.study_of[which][cell]]
        return NotFiniteValue(folder.array, study, str(read_table(folder.metadata).index[cell]))

    def _metadata(self, rows: Sequence[CellRows], study: int) -> tuple[list[str], dict[str, Column]]:
        name = self._cells.studies[study]
        obs = read_study(rows, study, self._cells)
        columns = field_columns(self._cells.options, obs, name)
        return cell_ids(self._inputs.root, name, obs.index), columns

    def _build(
        self,
        arrays: Sequence[Regrouped],
        rows: Sequence[CellRows],
        progress: Progress,
    ) -> None:
        inputs, session = self._inputs, self._session
        buffer = session.buffer()
        counts = np.zeros(len(self._wanted), np.int64)
        for study_of in self._cells.study_of:
            counts += np.bincount(study_of, minlength=len(counts))
        progress.start("studies", int(counts[self._wanted].sum()))
        for study in np.flatnonzero(self._wanted).tolist():
            ids, columns = self._metadata(rows, study)
            with closing(one_ahead(study_chunks(arrays, study, len(inputs.genes)))) as chunks:
                study_rows = StudyRows(
                    inputs.root, self._cells.studies[study], ids, self._gene_of_column, chunks
                )
                digest = inputs.digest(study, session.value_dtype)
                session.stage(inputs.root.name, digest, study_rows, columns, buffer)
        progress.finish()


@contextmanager
def _cells_of_genes(
    progress: Progress, name: str, n_cells: int, array: SignatureArray
) -> Iterator[Callable[[int], None]]:
    """Show genes done as the share of the cells that they are of the genes."""
    n_done = 0

    def advance(n_genes: int) -> None:
        nonlocal n_done
        before = n_cells * n_done // array.n_genes
        n_done += n_genes
        progress.advance(n_cells * n_done // array.n_genes - before)

    progress.start(name, n_cells)
    yield advance
    progress.finish()
