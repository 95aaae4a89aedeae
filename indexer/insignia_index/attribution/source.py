"""Counts as an input of attributions: what the builder reads row by row is made on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from insignia_index.attribution.alignment import Alignment, align
from insignia_index.attribution.attributor import Attributor
from insignia_index.attribution.counts import Values, as_counts, choose, read, without_model
from insignia_index.attribution.errors import NotCounts
from insignia_index.attribution.model import AttributionModel, load_model
from insignia_index.attribution.recipe import Attribution
from insignia_index.build.inputs import InputFile, Source, open_source
from insignia_index.format.files import tree_digest
from insignia_model.errors import InvalidArgument


class AttributedSource:
    """Attributions of a file of counts; its ``genes`` are those of the model that the file measured."""

    def __init__(
        self,
        file: InputFile,
        source: Source,
        attributor: Attributor,
        matrix: tuple[str, Values],
        alignment: Alignment,
        about_model: Mapping[str, Any],
    ) -> None:
        self.obs = source.obs
        self.n_stored = source.n_stored
        self.attributor = attributor
        self.alignment = alignment
        model = attributor.model
        self.genes = [model.genes[i] for i in alignment.measured.tolist()]
        self._column = np.full(len(model.genes), -1, np.int32)
        self._column[alignment.measured] = np.arange(len(alignment.measured))
        self._file = file
        self._source = source
        self._matrix, self._values = matrix
        self._about_model = about_model

    def read(self, first: int, last: int) -> csr_matrix:
        """Attributions of rows [first, last), CSR float32 (n_cells, n_genes measured)."""
        recipe = self.attributor.recipe
        rows = read(self._file.path, self._source, first, last)
        given = recipe.values != "auto"
        counts = as_counts(self._file.path, self._matrix, rows, self._values, first, given)
        prepared = self.attributor.model.prepare(self.alignment.of(counts))
        made = self.attributor.attribute(prepared, first)
        shape = (made.shape[0], len(self.genes))
        return csr_matrix((made.data, self._column[made.indices], made.indptr), shape)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How the attributions are made, with the errors on the cells that were checked so far."""
        attributor = self.attributor
        return {
            "insignia": version("insignia"),
            **self._about_model,
            "preprocessing": attributor.model.preprocessing,
            "target": attributor.model.target_formula,
            **attributor.recipe.in_words(),
            "counts": f"{self._matrix} ({self._values})",
            "genes": self.alignment.in_words(),
            "checks": attributor.checks.in_words(),
        }


@contextmanager
def open_attributed(file: InputFile) -> Iterator[AttributedSource]:
    """Open a file of counts whose ``attribution`` tells what to make of it."""
    if file.attribution is None:
        raise TypeError("the input tells no attribution")
    if file.layer is not None:
        raise InvalidArgument("layer", f"{file.layer!r}: with a model, the matrix is named by --counts")
    wanted: Attribution = file.attribution
    model: AttributionModel = load_model(wanted.model, wanted.kind)
    recipe = wanted.recipe
    attributor = Attributor(model, recipe, wanted.device)
    plain = replace(file, attribution=None)
    matrix = choose(plain, recipe.counts, recipe.values, model.uses_depth)
    with open_source(without_model(plain, matrix[0])) as source:
        if source.recipe and matrix[0] == "X":
            raise NotCounts(file.path, "X has attributions already, says uns['attribution']", "counts")
        alignment = align(file.path, source.genes, model.genes, recipe.strict, recipe.min_genes)
        about = {
            "model": wanted.model.resolve().name,
            "model_kind": model.kind,
            "model_digest": tree_digest(wanted.model),
        }
        yield AttributedSource(file, source, attributor, matrix, alignment, about)
