"""From a file of counts to a file of attributions."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from insignia_index.attribution.errors import OutputExists
from insignia_index.attribution.parts import Parts
from insignia_index.attribution.recipe import Attribution, Recipe
from insignia_index.attribution.source import AttributedSource, open_attributed
from insignia_index.build.inputs import InputFile, matrix_names, open_source
from insignia_index.build.progress import Progress, SilentProgress
from insignia_index.build.rows import chunk_cells
from insignia_index.catalog.writer import full_disk
from insignia_index.format.files import fsync_directory
from insignia_model.errors import InputError, InvalidArgument

_WRITE_ENTRIES = 16 << 20
#: Chunks that take longer do not grow.
_CHUNK_S = 5.0


@dataclass(frozen=True, slots=True)
class AttributionReport:
    """What was made. ``n_resumed``: cells that an earlier run had done; ``recipe``: as the output has it."""

    n_cells: int
    n_postings: int
    n_resumed: int
    recipe: dict[str, Any]
    unchanged: bool = False


def attribute_file(
    counts: str | Path | InputFile,
    model: str | Path,
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    kind: str | None = None,
    device: str = "auto",
    replace_output: bool = False,
    progress: Progress | None = None,
) -> AttributionReport:
    """Make attributions of the cells of ``counts`` with the model in a directory, and write them as AnnData.

    ``out`` (.h5ad) has them as X (n_cells, n_genes measured of the model's), CSR float32, with the metadata
    of the cells, and the recipe in ``uns["attribution"]``. It appears when all is done; until then what is
    made is kept in ``OUT.partial``, from where another run with the same input and recipe goes on. An output
    of the same input and recipe is left alone; another one is refused unless ``replace_output``.
    """
    out = Path(out)
    file = counts if isinstance(counts, InputFile) else InputFile(Path(counts))
    file = replace(file, attribution=Attribution(Path(model), recipe or Recipe(), kind, device))
    if out.suffix != ".h5ad":
        raise InvalidArgument("out", f"{out} must end in .h5ad")
    if not out.absolute().parent.is_dir():
        raise InvalidArgument("out", f"there is no directory {out.absolute().parent}")
    _check_out(out, file.path, Path(model))
    digest = file.digest("float32")
    if out.exists():
        made = _recipe_of(out)
        if made.get("digest") == digest:
            return AttributionReport(0, 0, 0, made, unchanged=True)
        if not replace_output:
            raise OutputExists(out)
    with full_disk(out), open_attributed(file) as source, Parts(partial_of(out), digest) as parts:
        n_resumed = parts.n_cells
        _make(source, parts, progress or SilentProgress(), file.path.name)
        said = {**source.recipe, "digest": digest}
        _write(out, source, parts, said)
        parts.remove()
    return AttributionReport(parts.n_cells, parts.n_entries, n_resumed, said)


def partial_of(out: Path) -> Path:
    """Where what is made of an output is kept until all is done."""
    return out.with_name(f"{out.name}.partial")


def _check_out(out: Path, counts: Path, model: Path) -> None:
    """Raise `InvalidArgument` if the output would take the place of what is read, or of a folder."""
    if out.is_dir():
        raise InvalidArgument("out", f"{out} is a folder; name a file")
    if out.exists() and counts.exists() and out.samefile(counts):
        raise InvalidArgument("out", f"{out} is the input itself; name another file")
    for folder in (counts, model):
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise InvalidArgument("out", f"{out} lies in {folder}, which is read; name a file elsewhere")


def _make(source: AttributedSource, parts: Parts, progress: Progress, name: str) -> None:
    checks = source.attributor.checks
    checks.completeness += parts.state.get("completeness", [])
    checks.precision += parts.state.get("precision", [])
    n_cells = len(source.obs)
    # a run goes on behind its last chunk, so that no chunk takes long; of whole batches, so that where a run
    # was interrupted changes nothing
    most = chunk_cells(source, n_cells)
    step = min(most, source.attributor.batch_cells)
    progress.start(name, n_cells)
    progress.advance(parts.n_cells)
    while (first := parts.n_cells) < n_cells:
        began = time.monotonic()
        last = min(first + step, n_cells)
        rows = source.read(first, last)
        parts.append(rows, {"completeness": checks.completeness, "precision": checks.precision})
        progress.advance(last - first)
        if time.monotonic() - began < _CHUNK_S and 2 * step <= most:
            step *= 2
    progress.finish()


def _write(out: Path, source: AttributedSource, parts: Parts, recipe: dict[str, Any]) -> None:
    """AnnData of the parts, under its name when it is whole; memory is bounded."""
    new = out.with_name(out.name + ".new")
    try:
        _write_new(new, source, parts, recipe)
        new.replace(out)
    finally:
        new.unlink(missing_ok=True)
    fsync_directory(out.absolute().parent)


def _write_new(new: Path, source: AttributedSource, parts: Parts, recipe: dict[str, Any]) -> None:
    import h5py
    from anndata.io import write_elem

    with h5py.File(new, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        matrix = file.create_group("X")
        shape = np.array([parts.n_cells, len(source.genes)])
        matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
        matrix.create_dataset("indptr", data=np.concatenate([[0], np.cumsum(parts.lengths())]))
        for name in ("indices", "data"):
            stored = matrix.create_dataset(name, (parts.n_entries,), parts.entries(name, 0, 0).dtype)
            for first, last in _slices(parts.n_entries):
                stored[first:last] = parts.entries(name, first, last)
        write_elem(file, "obs", _writable(source.obs))
        write_elem(file, "var", pd.DataFrame(index=pd.Index(source.genes, dtype=object)))
        write_elem(file, "uns", {"attribution": recipe})
    with new.open("rb") as written:
        os.fsync(written.fileno())


def _writable(obs: pd.DataFrame) -> pd.DataFrame:
    """The same with text as older readers of AnnData know it: categories."""
    text = [name for name in obs if isinstance(obs[name].dtype, pd.StringDtype)]
    return obs.astype(dict.fromkeys(text, "category")).set_axis(obs.index.astype(object))


def _slices(n: int) -> Iterator[tuple[int, int]]:
    for first in range(0, n, _WRITE_ENTRIES):
        yield first, min(first + _WRITE_ENTRIES, n)


def _recipe_of(path: Path) -> dict[str, Any]:
    """What an output says of itself; nothing if it is not one."""
    try:
        with open_source(InputFile(path, layer=(matrix_names(InputFile(path)) or ["X"])[0])) as source:
            return dict(source.recipe)
    except InputError:
        return {}
