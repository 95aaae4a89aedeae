"""Adding the studies of input files to an atlas, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.build.errors import (
    DuplicateGene,
    FieldConflict,
    InvalidText,
    StudyExists,
    StudyTwice,
    UnreadableInput,
)
from insignia_index.build.gene_table import set_gene_table
from insignia_index.build.inputs import InputFile, open_source
from insignia_index.build.obs import cell_ids, field_columns, oversights, study_of_cells
from insignia_index.build.progress import Progress, SilentProgress
from insignia_index.build.pseudobulk import DEFAULT_FIELDS, pseudobulk_fields, with_pseudobulk
from insignia_index.build.rows import RowsByStudy
from insignia_index.build.study import BuiltShard, PostingBuffer, StudyRows, build_shard
from insignia_index.catalog.columns import CellIds, encode_column
from insignia_index.catalog.records import VALUE_BITS, FieldRecord, StudyRecord
from insignia_index.catalog.writer import AtlasWriter, write_metadata
from insignia_index.dense.train import TrainReport, check_policy, update
from insignia_index.format.files import ShardFiles, bytes_digest
from insignia_index.format.reader import Shard
from insignia_index.format.writer import gene_bitmap
from insignia_index.kernels.check import FAULTS, check_genes
from insignia_model.errors import AtlasCorrupt, InvalidArgument, StudyNotFound
from insignia_model.signature import repeated
from insignia_model.table import Column

VALUE_DTYPES = tuple(VALUE_BITS)


@dataclass(slots=True)
class BuildReport:
    """What a build did: studies added, replaced, and those that were already there unchanged.

    ``recipes``: how attributions were made in passing, by the file of their counts. ``notes``: what looks
    like an oversight.
    ``faiss``: what was done about FAISS indexes, if the atlas has or had any. ``changed``: whether there is a
    new revision, be it of nothing but these or the gene table.
    """

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    n_cells: int = 0
    n_postings: int = 0
    revision: int = 0
    changed: bool = False
    recipes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    faiss: TrainReport | None = None


def build_atlas(
    path: str | Path,
    files: Sequence[InputFile],
    *,
    value_dtype: str | None = None,
    pseudobulk: Sequence[str] | None = None,
    create: bool = True,
    replace: bool = False,
    gene_table: str | Path | None = None,
    replace_gene_table: bool = False,
    faiss: str | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Add the studies of ``files`` to the atlas at ``path`` as one new revision, or raise and change nothing.

    ``value_dtype``: float16 (default) or float32, fixed when the atlas is made; so is ``pseudobulk``, the
    fields by which sums of attributions are kept (default: sample and cell_type; empty: none), for nulls
    and screens. With ``create`` false the atlas must exist. A study that is there with the same content and
    options is left alone; with other content it is replaced if ``replace``, else refused. ``gene_table``:
    file with the names of the genes (see `read_gene_table`), fixed when the atlas is made unless
    ``replace_gene_table``; without one, names are those of human genes. ``faiss``: see
    `dense.train.retrain`; default: what the atlas has, for its new studies too. The indexes are made once
    the studies are published, as a revision of their own: until then, and should it fail, all is answered
    by the sparse engine.
    """
    if not files:
        raise InvalidArgument("files", "there are none to build from")
    options = BuildOptions(value_dtype, pseudobulk, create, replace, gene_table, replace_gene_table, faiss)
    with opened_build(Path(path), options, progress) as session:
        for file in files:
            session.add_file(file)
        return session.publish()


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """As for `build_atlas`; ``default_pseudobulk``: fields that are taken when an atlas is made."""

    value_dtype: str | None = None
    pseudobulk: Sequence[str] | None = None
    create: bool = True
    replace: bool = False
    gene_table: str | Path | None = None
    replace_gene_table: bool = False
    faiss: str | None = None
    default_pseudobulk: tuple[str, ...] = DEFAULT_FIELDS


@contextmanager
def opened_build(path: Path, options: BuildOptions, progress: Progress | None) -> Iterator[AtlasBuild]:
    """Lock the atlas and check what is fixed when it is made. What is not published vanishes."""
    value_dtype, pseudobulk = options.value_dtype, options.pseudobulk
    if value_dtype not in (None, *VALUE_DTYPES):
        raise InvalidArgument("value_dtype", f"{value_dtype!r} is not one of {', '.join(VALUE_DTYPES)}")
    check_policy(options.faiss)
    create_dtype = (value_dtype or "float16") if options.create else None
    fields = options.default_pseudobulk if pseudobulk is None else pseudobulk_fields(pseudobulk)
    with AtlasWriter.open(path, create_dtype=create_dtype, pseudobulk=fields) as writer:
        if value_dtype is not None and value_dtype != writer.record.value_dtype:
            raise InvalidArgument(
                "value_dtype",
                f"the atlas stores {writer.record.value_dtype}; a new one can store {value_dtype}",
            )
        if options.gene_table is not None:
            set_gene_table(writer, Path(options.gene_table), options.replace_gene_table)
        if pseudobulk is not None and fields != writer.record.pseudobulk:
            kept = ", ".join(writer.record.pseudobulk) or "none"
            raise InvalidArgument(
                "pseudobulk",
                f"the atlas keeps sums by {kept}; a new one can keep {', '.join(fields) or 'none'}",
            )
        needed = fields if pseudobulk is not None else ()
        yield AtlasBuild(writer, options.replace, progress or SilentProgress(), needed, options.faiss)


def remove_studies(path: str | Path, studies: Sequence[str]) -> int:
    """Remove studies as one new revision, whose number is returned."""
    with AtlasWriter.open(Path(path)) as writer:
        for study in studies:
            if study not in writer.studies:
                raise StudyNotFound(study)
        for study in dict.fromkeys(studies):
            writer.remove(study)
        writer.publish()
        return writer.record.revision


class AtlasBuild:
    """The inputs of one build: what was staged so far, and the vocabulary as it grows.

    ``needed``: fields that some study must have when it is published.
    """

    def __init__(
        self,
        writer: AtlasWriter,
        replace: bool,
        progress: Progress,
        needed: Sequence[str] = (),
        faiss: str | None = None,
    ) -> None:
        self.report = BuildReport()
        self._needed = needed
        self._faiss = faiss
        self._writer = writer
        self._revision = writer.record.revision
        self._replace = replace
        self._progress = progress
        self._gene_ids = {gene: i for i, gene in enumerate(writer.genes)}
        self._fields: dict[str, dict[str, str | None]] = {}  # field: study: kind, None without a value
        for study, known in writer.studies.items():
            for name, record in known.fields.items():
                has_values = record.n_missing < known.n_cells
                self._fields.setdefault(name, {})[study] = record.kind if has_values else None
        self._staged: set[str] = set()

    def add_file(self, file: InputFile) -> None:
        """Stage every study of a file that is not there yet."""
        digest = file.digest(self.value_dtype)
        with open_source(file) as source:
            study_of, studies = study_of_cells(file, source.obs)
            wanted = [i for i, study in enumerate(studies) if self.is_wanted(file.path, study, digest)]
            if not wanted:
                return
            gene_of_column = self.map_genes(file.path, source.genes)
            rows_of = _rows_of(study_of, len(studies))
            fields = [field_columns(file, source.obs.iloc[rows_of[i]], studies[i]) for i in wanted]
            kinds = [{n: c.kind if c.has_values else None for n, c in columns.items()} for columns in fields]
            self.check_kinds(file.path, {studies[i]: of for i, of in zip(wanted, kinds, strict=True)})
            spill = self._writer.staging / "rows"
            spill.mkdir(parents=True, exist_ok=True)
            rows = RowsByStudy(source, study_of, wanted, spill)
            buffer = self.buffer()
            self.report.notes += oversights(file, source.obs)
            self._progress.start(file.path.name, sum(len(rows_of[i]) for i in wanted))
            for i, columns in zip(wanted, fields, strict=True):
                ids = cell_ids(file.metadata or file.path, studies[i], source.obs.index[rows_of[i]])
                study_rows = StudyRows(file.path, studies[i], ids, gene_of_column, rows.chunks(i))
                built = self.stage(file.path.name, digest, study_rows, columns, buffer, lambda: source.recipe)
                if built.is_whole and not source.recipe:
                    self.report.notes.append(
                        f"study {studies[i]!r} of {file.path.name} has whole numbers only, as counts are: "
                        "--model makes attributions of counts"
                    )
            if file.attribution is not None:
                self.report.recipes[file.path.name] = source.recipe
            self._progress.finish()

    @property
    def value_dtype(self) -> str:
        """How the atlas stores values: float16 or float32."""
        return self._writer.record.value_dtype

    def buffer(self) -> PostingBuffer:
        """Room for a block of postings of the genes that are mapped so far."""
        return PostingBuffer(len(self._writer.genes))

    def publish(self) -> BuildReport:
        """Make what was staged the next revision."""
        self.check_needed()
        self._writer.publish()
        if self._faiss is not None or self._writer.record.faiss is not None:
            self.report.faiss = update(
                self._writer, self._faiss, progress=self._progress, checked=self._staged
            )
        self.report.revision = self._writer.record.revision
        self.report.changed = self.report.revision > self._revision
        return self.report

    def check_needed(self) -> None:
        """Raise `InvalidArgument` if no study has one of the fields that sums were asked for."""
        for name in self._needed:
            if not self._fields.get(name):
                raise InvalidArgument("pseudobulk", f"no study has the field {name!r}")

    def is_wanted(self, path: Path, study: str, digest: str) -> bool:
        """Whether a study is to be staged; `StudyExists` if it is there and may not be replaced."""
        if study in self._staged:
            raise StudyTwice(path, study)
        known = self._writer.studies.get(study)
        if known is None:
            return True
        if known.digest == digest:
            self.report.unchanged.append(study)
            return False
        if not self._replace:
            raise StudyExists(path, study)
        return True

    def map_genes(self, path: Path, genes: list[str]) -> npt.NDArray[np.int64]:
        """Vocabulary id of every column; unknown genes are appended to the vocabulary."""
        if not genes:
            raise UnreadableInput(path, "it has no genes")
        for number, gene in enumerate(genes, start=1):
            if "\0" in gene or not gene:
                raise InvalidText(path, f"the name of gene {number:,} ({gene!r})")
        if twice := repeated(genes):
            raise DuplicateGene(path, twice)
        for gene in genes:
            if self._gene_ids.setdefault(gene, len(self._gene_ids)) == len(self._writer.genes):
                self._writer.genes.append(gene)
        return np.array([self._gene_ids[gene] for gene in genes], np.int64)

    def check_kinds(self, path: Path, kinds_of: Mapping[str, Mapping[str, str | None]]) -> None:
        """Raise `FieldConflict` unless the fields of these studies are of the kinds that others have.

        ``kinds_of``: study: field: kind, None of a field without a value, which has none. A study that is
        replaced does not bind the kinds of its fields.
        """
        for known in self._fields.values():
            for study in kinds_of:
                known.pop(study, None)
        numeric = {"number", "integer"}
        for study, kinds in kinds_of.items():
            for name, kind in kinds.items():
                known = self._fields.setdefault(name, {})
                of_others = ((other, its) for other, its in known.items() if its is not None)
                other, expected = next(of_others, (study, kind))
                if kind and expected and kind != expected and not {kind, expected} <= numeric:
                    raise FieldConflict(path, name, kind, other, expected)
                known[study] = kind

    def stage(
        self,
        source: str,
        digest: str,
        rows: StudyRows,
        columns: dict[str, Column],
        buffer: PostingBuffer,
        recipe: Callable[[], Mapping[str, Any]] = dict,
    ) -> BuiltShard:
        """Write the files of a study, to be published with the others; ``source`` names its input.

        ``recipe``: how its attributions were made, looked at when all rows are read.
        """
        shard, directory = self._writer.stage(rows.study)
        value_bits = self._writer.record.value_bits
        built = build_shard(rows, directory, buffer, value_bits, self._progress.advance)
        written = _check_shard(directory, built.files, buffer.n_genes)
        files = built.files
        if by := self._writer.record.pseudobulk:
            files = with_pseudobulk(written, files, [columns.get(name) for name in by])
        fields, items = _encoded(shard, columns)
        measured = gene_bitmap(np.sort(rows.gene_of_column), buffer.n_genes)
        try:
            cells, genes = CellIds.encode(rows.cell_ids), measured.tobytes()
        except OverflowError as error:
            problem = f"study {rows.study!r}: {error}; shorten them, or make several studies of it"
            raise UnreadableInput(rows.path, problem) from error
        items += [(f"cells/{shard}", cells), (f"genes/{shard}", genes)]
        write_metadata(directory, items)
        samples = columns["sample"]
        self._writer.add(
            StudyRecord(
                study=rows.study,
                shard=shard,
                revision=0,
                n_cells=len(rows.cell_ids),
                n_samples=len(samples.dictionary),
                n_postings=built.n_postings,
                n_genes_measured=len(rows.gene_of_column),
                signed=built.signed,
                source=source,
                digest=digest,
                cells_digest=bytes_digest(cells),
                genes_digest=bytes_digest(genes),
                files=files,
                fields=fields,
                recipe=dict(recipe()),  # complete now that the rows are read
            )
        )
        self._staged.add(rows.study)
        done = self.report.replaced if rows.study in self._writer.studies else self.report.added
        done.append(rows.study)
        self.report.n_cells += len(rows.cell_ids)
        self.report.n_postings += built.n_postings
        return built


def _rows_of(study_of: npt.NDArray[np.int64], n_studies: int) -> list[npt.NDArray[np.int64]]:
    order = np.argsort(study_of, kind="stable")
    return np.split(order, np.cumsum(np.bincount(study_of, minlength=n_studies))[:-1])


def _encoded(
    shard: str, columns: dict[str, Column]
) -> tuple[dict[str, FieldRecord], list[tuple[str, bytes]]]:
    """Field records and catalog entries of a study's columns."""
    fields, items = {}, []
    for name, column in columns.items():
        record, values, dictionary = encode_column(column)
        fields[name] = record
        items.append((f"column/{shard}/{name}", values))
        if dictionary:
            items.append((f"dictionary/{shard}/{name}", dictionary))
    return fields, items


def _check_shard(directory: Path, files: ShardFiles, n_genes: int) -> Shard:
    """Read back what was written, as a search would, before anybody can search it; returns it, open."""
    shard = Shard(directory, files)
    genes = np.arange(n_genes)
    for block in range(len(shard.table)):
        fault, _, gene = check_genes(shard.table, np.array([block]), genes, shard.value_bits // 8)
        if fault:
            raise AtlasCorrupt(shard.path, f"block {block}, gene id {gene}, just written: {FAULTS[fault]}")
        shard.release_pages()  # memory is bounded by a block, not by the study
    return shard
