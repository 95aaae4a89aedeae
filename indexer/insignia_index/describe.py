"""What an atlas holds, in the words of its users."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np

from insignia_index.catalog.records import CATALOG_VERSION, StudyRecord
from insignia_index.dense.files import dense_bytes
from insignia_index.format.files import bytes_digest
from insignia_index.snapshot import Snapshot
from insignia_model.info import AtlasInfo, FieldInfo, StudyInfo


def study_info(record: StudyRecord) -> StudyInfo:
    """One study."""
    return StudyInfo(
        study=record.study,
        n_cells=record.n_cells,
        n_samples=record.n_samples,
        n_genes_measured=record.n_genes_measured,
        n_postings=record.n_postings,
        size_bytes=sum(record.files.sizes.values()),
        revision=record.revision,
        source=record.source,
        signed=record.signed,
        recipe=json.dumps(record.recipe) if record.recipe else "",
        faiss=record.faiss.kind if record.faiss else "",
        faiss_kept=record.faiss.kept if record.faiss else 1.0,
    )


def atlas_info(snapshot: Snapshot) -> AtlasInfo:
    """The atlas as a whole."""
    studies = snapshot.studies
    shards = sum(sum(study.files.sizes.values()) for study in studies)
    faiss = snapshot.record.faiss
    catalog = (snapshot.atlas / "meta.lmdb").stat()
    return AtlasInfo(
        format_version=CATALOG_VERSION,
        revision=snapshot.revision,
        n_studies=len(studies),
        n_samples=sum(study.n_samples for study in studies),
        n_cells=snapshot.n_cells,
        n_genes=len(snapshot.gene_ids),
        n_postings=sum(study.n_postings for study in studies),
        size_bytes=shards + dense_bytes(snapshot) + min(catalog.st_size, 512 * catalog.st_blocks),  # a hole
        value_dtype=snapshot.record.value_dtype,
        signed=any(study.signed for study in studies),
        engines=("sparse", "faiss") if faiss else ("sparse",),
        faiss=json.dumps(faiss.to_json()) if faiss else "",
        digest=bytes_digest(snapshot.record.digest.encode(), snapshot.record.gene_table.encode()),
    )


def field_info(snapshot: Snapshot, field: str, max_values: int) -> FieldInfo:
    """One metadata field over all studies."""
    if field == "study":
        values = tuple((study.study, study.n_cells) for study in snapshot.studies)
        return FieldInfo(
            "study",
            "category",
            len(values),
            snapshot.n_cells,
            len(values),
            _commonest(Counter(dict(values)), max_values),
        )
    every = [(i, study.fields[field]) for i, study in enumerate(snapshot.studies) if field in study.fields]
    # without a value it has no kind there, and is not there
    records = [(i, record) for i, record in every if record.n_missing < snapshot.studies[i].n_cells]
    kinds = {record.kind for _, record in records or every}
    kind = "number" if kinds == {"number", "integer"} else min(kinds)
    n_cells = sum(snapshot.studies[i].n_cells - record.n_missing for i, record in records)
    if kind == "category":
        counts = _value_counts(snapshot, field, [i for i, _ in records])
        return FieldInfo(field, kind, len(records), n_cells, len(counts), _commonest(counts, max_values))
    lows = [record.minimum for _, record in records if record.minimum is not None]
    highs = [record.maximum for _, record in records if record.maximum is not None]
    return FieldInfo(
        field, kind, len(records), n_cells, minimum=min(lows, default=None), maximum=max(highs, default=None)
    )


def _value_counts(snapshot: Snapshot, field: str, studies: list[int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for study in studies:
        column = snapshot.column(study, field)
        if column is not None:
            per_code = np.bincount(column.values + 1, minlength=len(column.dictionary) + 1)[1:]
            counts.update(dict(zip(column.dictionary, per_code.tolist(), strict=True)))
    return +counts  # drops values that no cell has


def _commonest(counts: Counter[str], n: int) -> tuple[tuple[str, int], ...]:
    """The n largest counts; ties in the order of the names."""
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n])
