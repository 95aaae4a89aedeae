"""``insignia attribute``, and the options by which ``insignia build`` makes attributions too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from insignia_model.optional import extra

if TYPE_CHECKING:
    from insignia_index.attribution.attribute import AttributionReport
    from insignia_index.attribution.recipe import Attribution

C = TypeVar("C", bound=Callable[..., Any])
_PATH = click.Path(path_type=Path)
_RECIPE = (
    "method", "steps", "quadrature", "signed", "target_sum", "precision", "counts", "values", "strict_genes",
    "min_genes",
)  # fmt: skip
_OF_A_MODEL = (*_RECIPE, "model_kind", "device")


def recipe_options(command: C) -> C:
    """Options of how attributions are made."""
    for option in (
        click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N."),
        click.option(
            "--min-genes",
            type=int,
            metavar="N",
            help="Of the model's genes that must be there. [5000, or half]",
        ),
        click.option("--strict-genes", is_flag=True, help="Use exact gene symbols only."),
        click.option(
            "--values",
            type=click.Choice(["auto", "counts", "normalised", "log-normalised"]),
            default="auto",
            show_default="recognised",
            help="What the matrix holds.",
        ),
        click.option(
            "--counts",
            default="auto",
            metavar="NAME",
            help="Matrix with the counts: X, raw, or a layer. [first that fits of the layer counts, X, raw]",
        ),
        click.option(
            "--precision",
            type=click.Choice(["float32", "tf32", "bfloat16"]),
            default="float32",
            show_default=True,
            help="Of the layers; what less than float32 costs is measured and told.",
        ),
        click.option(
            "--target-sum",
            default="1000",
            show_default=True,
            metavar="X",
            help="Sum of a cell's absolute attributions; none: as they are.",
        ),
        click.option("--signed", is_flag=True, help="Keep the signs (else absolute values)."),
        click.option(
            "--quadrature",
            type=click.Choice(["gausslegendre", "riemann_middle"]),
            default="gausslegendre",
            show_default=True,
            help="Points of integrated gradients on the path.",
        ),
        click.option("--steps", type=int, default=50, show_default=True, help="Number of these points."),
        click.option(
            "--method",
            type=click.Choice(["ig", "deeplift", "input-x-gradient"]),
            default="ig",
            show_default=True,
            help="ig: integrated gradients.",
        ),
        click.option("--model-kind", metavar="NAME", help="Kind of the model. [recognised by its files]"),
    ):
        command = option(command)
    return command


def attribution_of(model: Path, options: dict[str, Any]) -> Attribution:
    """What the options of `recipe_options` say; `MissingExtra` without torch."""
    with extra("attribution", "making attributions"):
        from insignia_index.attribution.recipe import Attribution, Recipe

    given = {name: options[name] for name in _RECIPE}
    given["strict"] = given.pop("strict_genes")
    given["target_sum"] = _target_sum(given["target_sum"])
    return Attribution(model, Recipe(**given), options["model_kind"], options["device"])


def without_recipe(options: dict[str, Any]) -> dict[str, Any]:
    """The options without those of `recipe_options`."""
    return {name: v for name, v in options.items() if name not in _OF_A_MODEL}


def refuse_recipe() -> None:
    """Raise `click.UsageError` if one of `recipe_options` was given to the command, where no model is."""
    context = click.get_current_context()
    for option in context.command.params:
        source = option.name and context.get_parameter_source(option.name)
        if option.name in _OF_A_MODEL and source == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]} says how attributions are made: give --model too")


def _target_sum(text: str) -> float | None:
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a number nor none", param_hint="--target-sum"
        ) from None


@click.command()
@click.argument("counts_file", metavar="COUNTS", type=_PATH)
@click.option("--model", required=True, type=_PATH, metavar="DIR", help="Directory of the model.")
@click.option("-o", "--out", required=True, type=_PATH, metavar="FILE.h5ad", help="Where they are written.")
@recipe_options
@click.option("--gene-field", metavar="NAME", help="Column of var with the gene names (else its index).")
@click.option("--replace", is_flag=True, help="Replace an output that was made of something else.")
def attribute(
    counts_file: Path, model: Path, out: Path, gene_field: str | None, replace: bool, **options: Any
) -> None:
    """Make attributions: how much each gene matters in each cell of COUNTS (.h5ad, .zarr) to a model.

    The output has the cells' metadata and the recipe, and goes into `insignia build`. What was interrupted
    goes on where it stopped.
    """
    # torch, which --help does not need
    from insignia_index.build.inputs import InputFile
    from insignia_index.build.progress import BarProgress

    with extra("attribution", "insignia attribute"):
        from insignia_index.attribution.attribute import attribute_file, partial_of

    wanted = attribution_of(model, options)
    try:
        report = attribute_file(
            InputFile(counts_file, gene_field=gene_field),
            model,
            out,
            wanted.recipe,
            kind=wanted.kind,
            device=wanted.device,
            replace_output=replace,
            progress=BarProgress(),
        )
    except KeyboardInterrupt:
        if (partial := partial_of(out)).exists():
            click.echo(
                f"\nstopped: what is done is in {partial}; the same command goes on from there", err=True
            )
        raise
    click.echo(_summary(out, report))


def _summary(out: Path, report: AttributionReport) -> str:
    if report.unchanged:
        return f"{out}: made of this input with this recipe already"
    resumed = f", {report.n_resumed:,} of them by an earlier run" if report.n_resumed else ""
    lines = [f"{out}: {report.n_cells:,} cells{resumed}, {report.n_postings:,} attributions"]
    return "\n".join([*lines, *("  " + line for line in recipe_lines(report.recipe))])


def recipe_lines(recipe: Mapping[str, Any]) -> list[str]:
    """What to know of a run: the counts used, the genes found, the errors on the checked cells."""
    genes, checks = recipe["genes"], recipe["checks"]
    ways = {way: genes.get(f"n_{way}", 0) for way in ("exact", "case", "previous", "alias", "ensembl")}
    found = ", ".join(f"{n:,} {way}" for way, n in ways.items() if n)
    lines = [
        f"counts: {recipe['counts']}",
        f"genes: {genes['n_measured']:,} of the model's {genes['n_model']:,} ({found})",
    ]
    if ways["case"] > genes["n_measured"] / 2:
        lines.append("most genes are written in another case than the model's: is it the same species?")
    if genes["n_ambiguous"]:
        lines.append(f"left out: {genes['n_ambiguous']:,} names that may be several genes")
    for name, what in (("completeness", "sum of attributions"), ("precision", recipe["precision"])):
        if f"{name}_error_max" in checks:
            lines.append(
                f"relative error of the {what}: median {checks[f'{name}_error_median']:.2g}, largest "
                f"{checks[f'{name}_error_max']:.2g} ({checks['n_cells_checked']:,} cells checked)"
            )
    return lines
