"""``insignia remove``, ``retrain``, ``verify`` and ``info``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from insignia_index.dense.record import KINDS, FaissRecord

if TYPE_CHECKING:
    from insignia_index.dense.train import TrainReport

_ATLAS = click.argument("atlas", type=click.Path(path_type=Path))


@click.command()
@_ATLAS
@click.argument("studies", nargs=-1, required=True)
def remove(atlas: Path, studies: tuple[str, ...]) -> None:
    """Remove studies from an atlas; it can be open, and served, meanwhile."""
    from insignia_index.build.build import remove_studies

    revision = remove_studies(atlas, studies)
    click.echo(f"{atlas}: removed {', '.join(dict.fromkeys(studies))} (revision {revision})")


@click.command()
@_ATLAS
@click.option(
    "--faiss", "policy", type=click.Choice(KINDS), help="What kind of indexes. [that of the atlas, else auto]"
)
@click.option(
    "--dimensions", type=click.IntRange(min=1), help="Of the projection. [that of the atlas, else 128]"
)
def retrain(atlas: Path, policy: str | None, dimensions: int | None) -> None:
    """Learn the projection anew and replace all FAISS indexes; the atlas can be served meanwhile."""
    from insignia_index.build.progress import BarProgress
    from insignia_index.dense.train import retrain as train

    report = train(atlas, policy, n_dimensions=dimensions, progress=BarProgress())
    for line in faiss_lines(report):
        click.echo(line)


def faiss_lines(report: TrainReport) -> list[str]:
    """What was done about FAISS, in lines."""
    if report.record is None:
        return ["FAISS: no indexes"]
    n = len(report.studies)
    done = f"FAISS: {n:,} {'index' if n == 1 else 'indexes'} written (revision {report.revision})"
    return [done, *_recall_lines(report.record)]


def _recall_lines(record: FaissRecord) -> list[str]:
    """The measured recall, a line for each number of candidates."""
    lines = []
    for kind, points in record.recall.items():
        for point in points:
            found = ", ".join(
                f"{mean:.3f} of the best {k} (count on {point.low[k]:.3f})" for k, mean in point.mean.items()
            )
            if found:  # fewer cells than are counted on have none
                lines.append(f"  recall of a {kind} with {point.candidates:>6,} candidates: {found}")
    return lines


@click.command()
@_ATLAS
def verify(atlas: Path) -> None:
    """Read every byte of an atlas and compare it with its checksums."""
    from insignia_index.verify import verify_atlas

    report = verify_atlas(atlas)
    click.echo(
        f"{atlas}: {report.n_studies:,} studies, {report.size_bytes:,} bytes, all as they were written"
    )


@click.command()
@_ATLAS
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:N",
    help="How much of the atlas fits on the device.",
)
@click.option("--device-memory", type=int, metavar="BYTES", help="Of the device, for postings.")
def info(atlas: Path, form: str, device: str, device_memory: int | None) -> None:
    """Show what an atlas holds."""
    from insignia_index.atlas import Atlas

    with Atlas.open(atlas, threads=1, device=device, device_memory=device_memory) as opened:
        about, studies = opened.info(), opened.studies()
    if form == "json":
        click.echo(json.dumps(asdict(about) | {"studies": [asdict(study) for study in studies]}))
        return
    click.echo(f"{atlas}: revision {about.revision}, format version {about.format_version}")
    click.echo(f"  studies   {about.n_studies:>15,}")
    click.echo(f"  samples   {about.n_samples:>15,}")
    click.echo(f"  cells     {about.n_cells:>15,}")
    click.echo(f"  genes     {about.n_genes:>15,}")
    per_posting = about.size_bytes / max(1, about.n_postings)
    click.echo(
        f"  postings  {about.n_postings:>15,}  ({about.value_dtype}{', signed' if about.signed else ''})"
    )
    click.echo(f"  bytes     {about.size_bytes:>15,}  ({per_posting:.2f} a posting)")
    if about.device:
        rest = about.n_cells - about.n_cells_on_device
        elsewhere = f"; the processor searches the other {rest:,}" if rest else ""
        click.echo(f"  on device {about.n_cells_on_device:>15,}  cells on {about.device}{elsewhere}")
    if about.faiss:
        record = FaissRecord.from_json(json.loads(about.faiss))
        lists = f", {record.n_lists:,} lists" if record.n_lists else ""
        space = f", {record.n_dimensions} dimensions{lists}" if record.n_dimensions else ""
        click.echo(f"  FAISS     {record.policy}, version {record.version}{space}")
        for line in _recall_lines(record):
            click.echo("  " + line)
    for study in studies:
        faiss = f", FAISS {study.faiss}" if study.faiss else ""
        kept = f" ({study.faiss_kept:.1%} kept)" if study.faiss == "projected" else ""
        click.echo(
            f"  {study.study}: {study.n_cells:,} cells, {study.n_samples:,} samples, "
            f"{study.n_genes_measured:,} genes, revision {study.revision}, from {study.source}{faiss}{kept}"
        )
        if study.recipe:
            click.echo(f"    attributions: {_in_words(json.loads(study.recipe))}")


def _in_words(recipe: dict[str, Any]) -> str:
    """Its plain entries; what else it holds is in the JSON."""
    plain = {name: value for name, value in recipe.items() if isinstance(value, str | int | float)}
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in plain.items() if "digest" not in name
    )
