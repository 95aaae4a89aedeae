"""The recall that atlases with FAISS indexes have measured, as a picture for docs/engines.md.

    python benchmarks/recall_curve.py ATLAS [ATLAS ...] [--out docs/pictures/recall.png]

A row of two panels an atlas: signatures, profiles of cells. The curves are those of the catalog.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insignia_index import Atlas
from insignia_model.plot.style import INK, REFERENCE, finished, new_figure, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
KINDS = {"signature": "signatures", "profile": "profiles of cells"}
COLOURS = {"100": INK, "1000": REFERENCE}


def draw(axes: "Axes", points: list[dict[str, Any]]) -> None:
    """Draw mean and least recall against candidates."""
    for k, colour in COLOURS.items():
        known = [point for point in points if k in point["mean"]]
        candidates = [point["candidates"] for point in known]
        mean, low = ([point[what][k] for point in known] for what in ("mean", "low"))
        axes.plot(candidates, mean, color=colour, marker="o", label=f"best {int(k):,}: mean")
        axes.plot(candidates, low, color=colour, marker="o", ls=":", label="can be counted on")
    axes.axhline(0.99, color="#999999", lw=0.8)
    axes.set_xscale("log")
    axes.set_xticks([300, 1_000, 3_000, 10_000], ["300", "1,000", "3,000", "10,000"])
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.03)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def figure(paths: list[Path]) -> "Figure":
    """Return a row of panels an atlas."""
    drawn = new_figure(8, 2.9 * len(paths))
    panels = drawn.subplots(len(paths), len(KINDS), squeeze=False, sharey=True)
    for row, path in zip(panels, paths, strict=True):
        with Atlas.open(path, threads=1) as atlas:
            info = atlas.info()
        record = json.loads(info.faiss)
        lists = f", {record['n_lists']} lists" if record["n_lists"] else ""
        for axes, (kind, name) in zip(row, KINDS.items(), strict=True):
            draw(axes, record["recall"][kind])
            titled(axes, f"{info.n_cells:,} cells{lists}: {name}", pad=6)
        row[0].set_ylabel("recall")
    for axes in panels[-1]:
        axes.set_xlabel("candidates")
    panels[0, 1].legend(frameon=False, fontsize=8, loc="lower right")
    return drawn


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("atlases", type=Path, nargs="+", metavar="ATLAS")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures" / "recall.png")
    args = parser.parse_args()
    finished(figure(args.atlases), args.out)


if __name__ == "__main__":
    main()
