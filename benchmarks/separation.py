"""Attributions beside plain expression: how well a signature's score tells cells apart on each.

    python benchmarks/separation.py DATA [--out FOLDER]

DATA holds expression/*.h5ad (counts) and model/. Writes a picture, prints the table of docs/attributions.md.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from insignia_index import Atlas, InputFile, build_atlas, read_signatures
from insignia_index.attribution.normalise import log_normalised
from insignia_index.attribution.recipe import Attribution
from insignia_model.plot.style import BOX, INK, finished, new_figure, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
SIGNATURES = ROOT / "tests" / "data" / "signatures.gmt"
INTERFERON = "HALLMARK_INTERFERON_ALPHA_RESPONSE"
MONOCYTES = "CD14+ Monocytes"


@dataclass(frozen=True)
class Task:
    """Cells of a study that a signature should tell from the others."""

    signature: str
    study: str
    field: str
    value: str
    among: str | None = None  # only cells of this type

    def __str__(self) -> str:
        return f"{self.study}: {self.value}" + (f" among {self.among}" if self.among else "")


TASKS = (
    Task(INTERFERON, "kang2018", "condition", "stimulated"),
    Task(INTERFERON, "kang2018", "condition", "stimulated", "B"),
    Task(INTERFERON, "kang2018", "condition", "stimulated", MONOCYTES),
    Task("HALLMARK_INTERFERON_GAMMA_RESPONSE", "kang2018", "condition", "stimulated"),
    Task("HALLMARK_INFLAMMATORY_RESPONSE", "kang2018", "cell_type", MONOCYTES),
    Task("CD14_MONOCYTE_MARKERS", "kang2018", "cell_type", MONOCYTES),
    Task("CD14_MONOCYTE_MARKERS", "pbmc3k", "cell_type", "CD14 Monocytes"),
    Task("MS1", "kang2018", "cell_type", MONOCYTES),
    Task("MS1", "pbmc3k", "cell_type", "CD14 Monocytes"),
    Task("BETA_CELL_MARKERS", "baron2016", "cell_type", "beta"),
    Task("HALLMARK_PANCREAS_BETA_CELLS", "baron2016", "cell_type", "beta"),
)


def area(scores: np.ndarray, is_one: np.ndarray) -> float:
    """Return the area under the ROC curve: how often one of them scores more than one of the others."""
    statistic = mannwhitneyu(scores[is_one], scores[~is_one]).statistic
    return float(statistic / is_one.sum() / (~is_one).sum())


def write_expression(source: Path, out: Path) -> Path:
    """Write log1p of counts per 10,000 of all genes."""
    cells = anndata.read_h5ad(source)
    cells.X = log_normalised(cells.X.tocsr())
    cells.write_h5ad(out)
    return out


def rows(atlases: dict[str, Atlas], obs: dict[str, pd.DataFrame]) -> Iterator[dict[str, object]]:
    """Figures of every task."""
    sets = read_signatures(SIGNATURES)
    for task in TASKS:
        if task.study not in obs:
            continue
        about = obs[task.study]
        keep = (
            np.full(len(about), True) if task.among is None else (about["cell_type"] == task.among).to_numpy()
        )
        is_one = (about[task.field] == task.value).to_numpy()[keep]
        areas = {}
        for name, atlas in atlases.items():
            scores = atlas.scores(sets[task.signature], where={"study": task.study}).values
            areas[name] = area(scores[keep], is_one)
        yield {"signature": task.signature, "cells": str(task), "n": int(is_one.sum()), **areas}


def figure(atlases: dict[str, Atlas], obs: pd.DataFrame) -> "Figure":
    """Distribution of the interferon response in the two conditions, on attributions and on expression."""
    signature = read_signatures(SIGNATURES)[INTERFERON]
    drawn = new_figure(8, 3.2)
    for axes, (name, atlas) in zip(drawn.subplots(1, 2), atlases.items(), strict=True):
        scores = atlas.scores(signature, where={"study": "kang2018"}).values
        bins = np.linspace(0, scores.max(), 60)
        for value, colour in (("control", BOX), ("stimulated", INK)):
            of = scores[(obs["condition"] == value).to_numpy()]
            axes.hist(of, bins, color=colour, alpha=0.85, label=f"{value} ({len(of):,})")
        titled(axes, name, pad=6)
        axes.set_xlabel(f"mean over {len(signature.genes)} genes")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    drawn.axes[0].set_ylabel("cells")
    drawn.axes[1].legend(frameon=False)
    return drawn


def table(found: Sequence[dict[str, object]]) -> str:
    """Return Markdown."""
    names = list(found[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in found:
        cells = [f"{value:.3f}" if isinstance(value, float) else f"{value}" for value in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Build both atlases in a temporary folder, print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with expression/ and model/")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    args = parser.parse_args()
    files = sorted((args.data / "expression").glob("*.h5ad"))
    obs = {file.stem: anndata.read_h5ad(file, backed="r").obs for file in files}
    with tempfile.TemporaryDirectory() as folder:
        made = Attribution(args.data / "model")
        build_atlas(Path(folder, "a"), [InputFile(file, attribution=made) for file in files])
        plain = [write_expression(file, Path(folder, file.name)) for file in files]
        build_atlas(Path(folder, "e"), [InputFile(file) for file in plain])
        with Atlas.open(Path(folder, "a")) as attributions, Atlas.open(Path(folder, "e")) as expression:
            atlases = {"attributions": attributions, "log-expression": expression}
            print(table(list(rows(atlases, obs))))
            finished(figure(atlases, obs["kang2018"]), args.out / "separation.png")


if __name__ == "__main__":
    main()
