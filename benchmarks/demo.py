"""Insignia in one sitting: build an atlas of real cells, serve it, ask three questions, draw the answers.

    make demo

Everything is written to demo/. Ends with exit code 1, and says why, if an answer is not what these cells are
known to say.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from insignia_client import Client, SearchResult, read_gmt
from insignia_client.cli import render
from insignia_client.cli.search import summary_text
from serving import INSIGNIA, running_server

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
PICTURE = ROOT / "docs" / "pictures" / "demo.png"
MOST_ROWS = 8
COLUMNS = (
    ("n_cells", "cells", None),
    ("n_hits", "hits", None),
    ("hit_fraction", "hit %", render.percent),
    ("mean", "mean score", None),
    ("n_samples", "samples", None),
)


class DemoError(Exception):
    """An answer is not what these cells are known to say."""


@dataclass(frozen=True)
class Question:
    """A signature, how the answer is grouped, what a biologist expects to see, and the check of it."""

    name: str
    signature: str
    group_by: tuple[str, ...]
    see: str
    expected: Callable[[SearchResult], bool]
    picture_by: tuple[str, ...] = ()  # grouping of the picture, if there is one
    hits: str = "percentile:95"


def top(result: SearchResult, field: str, n: int = 1) -> list[str]:
    """Values of `field` in the first n groups."""
    return result.groups[field].astype(str).head(n).tolist()


def share_of_hits(result: SearchResult, field: str, values: Iterable[str]) -> float:
    """Share of all hits that lies in groups with one of these values."""
    groups = result.groups
    return float(groups.loc[groups[field].isin(list(values)), "n_hits"].sum() / result.n_hits)


MONOCYTES = {"CD14+ Monocytes", "CD14 Monocytes"}
QUESTIONS = (
    Question(
        "interferon",
        "HALLMARK_INTERFERON_ALPHA_RESPONSE",
        ("sample", "condition"),
        "three of four cells of kang_stimulated, the blood that was given interferon-beta, are hits; of the "
        "same patients' untreated blood none is.",
        lambda r: (
            top(r, "sample") == ["kang_stimulated"] and share_of_hits(r, "sample", top(r, "sample")) > 0.95
        ),
        picture_by=("condition", "cell_type"),
        hits="zscore:1",
    ),
    Question(
        "beta_cells",
        "BETA_CELL_MARKERS",
        ("cell_type",),
        "beta cells are hits almost without exception; delta cells, which share PDX1, follow far behind.",
        lambda r: top(r, "cell_type") == ["beta"] and r.groups["hit_fraction"][0] > 0.8,
        picture_by=("cell_type",),
    ),
    Question(
        "ms1",
        "MS1",
        ("cell_type",),
        "CD14 monocytes of both blood studies, and nothing else: MS1 is a state of these cells.",
        lambda r: (
            set(top(r, "cell_type", 2)) == MONOCYTES and share_of_hits(r, "cell_type", MONOCYTES) > 0.95
        ),
        picture_by=("cell_type",),
    ),
    Question(
        "ms1_by_disease",
        "MS1",
        ("study", "disease", "condition"),
        "lupus blood (control) lies above the healthy donor's; interferon-beta turns MS1 down; the pancreas, "
        "which has no CD14 monocytes, has no hit.",
        lambda r: (
            top(r, "condition", 2) == ["control", "untreated"]
            and top(r, "study", 2) == ["kang2018", "pbmc3k"]
        ),
    ),
)


def build(atlas: Path) -> None:
    """Build the atlas anew from the data of the tests."""
    files = sorted(DATA.glob("*.h5ad"))
    print(f"$ insignia build {shown(atlas)} {shown(DATA)}/*.h5ad", flush=True)
    began = time.perf_counter()
    subprocess.run([INSIGNIA, "build", atlas, *files], check=True)
    print(f"({time.perf_counter() - began:.1f} s)\n", flush=True)


def ask(client: Client, question: Question, folder: Path) -> SearchResult:
    """Search, print the best groups, draw the picture, check the answer."""
    signature = read_gmt(DATA / "signatures.gmt")[question.signature]
    result = client.search(signature, group_by=question.group_by, hits=question.hits)
    print(f"{'─' * 100}\n{summary_text(result)}\n{table(result)}\n→ {question.see}", flush=True)
    if not question.expected(result):
        raise DemoError(f"{question.name}: expected otherwise: {question.see}")
    if question.picture_by:
        result = client.search(signature, group_by=question.picture_by, hits=question.hits)
        path = folder / f"{question.name}.png"
        result.plot(path=path, max_groups=20)
        print(f"  {shown(path)}")
    print()
    return result


def table(result: SearchResult) -> str:
    """Return the best groups as text."""
    groups = result.group_table.head(MOST_ROWS)
    columns = [render.shown(groups, field) for field in result.group_by]
    columns += [render.shown(groups, name, heading, write) for name, heading, write in COLUMNS]
    more = len(result.group_table) - len(groups)
    return render.text_table(columns) + (f"({more} more groups)\n" if more > 0 else "")


def draw_together(results: list[SearchResult], path: Path) -> None:
    """All pictures beside each other, for the README."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(17, 4.6), layout="constrained")
    for ax, result in zip(figure.subplots(1, len(results)), results, strict=True):
        result.plot(ax=ax, max_groups=8)
        ax.set_xlabel("hits in each sample, % of its cells")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def what_next(atlas: Path) -> str:
    """Commands to try, as they can be pasted into a shell in the current folder."""
    insignia, gmt = shown(INSIGNIA), shown(DATA / "signatures.gmt")
    place, plot, port = shown(atlas), shown(atlas.with_name("isgs.png")), "127.0.0.1:50051"
    return f"""Try next:
  {insignia} info {place}
  {insignia} search --atlas {place} --signature {gmt} --name HALLMARK_HYPOXIA --group-by cell_type
  {insignia} search --atlas {place} --genes CD14,LYZ,CD3E:-1 --where tissue=blood --format json -k 3
and in two terminals:
  {insignia} serve {place} --listen {port}
  {insignia} search --server {port} --genes ISG15,IFI6,IFIT1 --group-by sample --plot {plot}
"""


def shown(path: Path) -> str:
    """Path as one types it here."""
    relative = os.path.relpath(path)
    return shlex.quote(relative if len(relative) < len(str(path)) else str(path))


def run(folder: Path, readme: bool) -> None:
    """Do everything in `folder`, which is made anew."""
    began = time.perf_counter()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    atlas = folder / "atlas"
    build(atlas)
    print(f"$ insignia serve {shown(atlas)} --listen 127.0.0.1:0")
    with running_server(atlas, folder / "server.log") as address, Client(address) as client:
        print(f"serving on {address}\n", flush=True)
        results = [ask(client, question, folder) for question in QUESTIONS]
    drawn = [r for r, question in zip(results, QUESTIONS, strict=True) if question.picture_by]
    draw_together(drawn, folder / "demo.png")
    if readme:
        shutil.copyfile(folder / "demo.png", PICTURE)
    print(f"The server is stopped; all answers are as expected ({time.perf_counter() - began:.0f} s).\n")
    print(what_next(atlas), end="")


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "demo", help="folder that is made anew")
    parser.add_argument("--readme", action="store_true", help="also write docs/pictures/demo.png")
    args = parser.parse_args()
    try:
        run(args.out, args.readme)
    except (DemoError, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
