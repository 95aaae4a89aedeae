"""Pictures of real cells for docs/gallery.md: `python benchmarks/gallery.py [--out FOLDER]`.

The cells and signatures are those of tests/data; a temporary atlas is built of them.
"""

import argparse
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from insignia_index import Atlas, InputFile, Signature, build_atlas, read_signatures
from insignia_model import Column, Table
from insignia_model.plot import gene_contributions, screen_heatmap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
MANY = ("sample", "cell_type")
INTERFERON = "HALLMARK_INTERFERON_ALPHA_RESPONSE"


def contributions(atlas: Atlas, signature: Signature, fields: tuple[str, ...]) -> Table:
    """Part of every gene in the mean score of every group: its sum score alone, over all weights."""
    genes = atlas.genes(signature.genes).resolved
    total = sum(abs(signature.weights[asked]) for asked in genes)
    rows = []
    for asked, gene in genes.items():
        weight = signature.weights[asked]
        alone = atlas.search({gene: weight}, group_by=fields, aggregate="sum", k=0).group_table
        for row in alone.rows():
            keys = {field: row[field] for field in fields}
            rows.append(keys | {"gene": gene, "weight": weight, "contribution": row["mean"] / total})
    return Table({name: Column.of([row[name] for row in rows]) for name in rows[0]})


def screen(atlas: Atlas, signatures: dict[str, Signature], fields: tuple[str, ...]) -> Table:
    """One row per (signature, group)."""
    rows = [
        {"signature": name} | row
        for name, signature in signatures.items()
        for row in atlas.search(signature, group_by=fields, k=0).group_table.rows()
    ]
    return Table({name: Column.of([row[name] for row in rows]) for name in rows[0]})


def figures(atlas: Atlas) -> Iterator[tuple[str, "Figure"]]:
    """Name and figure of every picture."""
    sets = read_signatures(DATA / "signatures.gmt")
    interferon, respiration = sets[INTERFERON], sets["HALLMARK_OXIDATIVE_PHOSPHORYLATION"]
    yield "samples_few", atlas.search(interferon, group_by="condition", hits="zscore:1").plot()
    yield "samples_many", atlas.search(respiration, group_by=MANY, hits="percentile:75").plot()
    scores = atlas.scores(sets["MS1"])
    yield "scores", scores.plot(cutoff="percentile:95", title="MS1")
    yield "scores_by_study", scores.plot(cutoff="percentile:95", by="study", title="MS1")
    for groups, fields in (("few", ("condition",)), ("many", MANY)):
        table = contributions(atlas, interferon, fields)
        yield f"genes_{groups}", gene_contributions(table, title=INTERFERON)
    yield "screen_few", screen_heatmap(screen(atlas, sets, ("condition",)), "hit_fraction")
    yield "screen_many", screen_heatmap(screen(atlas, sets, MANY), max_groups=50)


def library_figure(atlas: Atlas, library: Path, n_signatures: int) -> "Figure":
    """Heat map of the first signatures of another library."""
    sets = dict(islice(read_signatures(library).items(), n_signatures))
    return screen_heatmap(screen(atlas, sets, MANY))


def write(name: str, figure: "Figure", folder: Path) -> None:
    """Write a picture, small enough for a page."""
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=75, bbox_inches="tight")
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures" / "gallery")
    parser.add_argument("--library", type=Path, help="also a heat map of 200 signatures of this file")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "atlas"
        build_atlas(path, [InputFile(file) for file in sorted(DATA.glob("*.h5ad"))])
        with Atlas.open(path) as atlas:
            for name, figure in figures(atlas):
                write(name, figure, args.out)
            if args.library:
                write("library", library_figure(atlas, args.library, 200), args.out)


if __name__ == "__main__":
    main()
