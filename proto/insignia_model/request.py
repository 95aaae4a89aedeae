"""A search request: the question, checked once, in the form that every engine and the wire take."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from insignia_model.condition import Condition, WhereLike, conditions
from insignia_model.contrast import Contrast, ContrastsLike
from insignia_model.contrast import contrasts as contrasts_of
from insignia_model.engine import check_engine
from insignia_model.errors import InvalidArgument
from insignia_model.hits import HitRule
from insignia_model.signature import Signature, SignatureLike

AGGREGATES = ("mean", "sum")


class CellId(NamedTuple):
    """A cell's identity."""

    study: str
    cell_id: str

    @classmethod
    def of(cls, value: CellId | tuple[str, str] | str) -> CellId:
        """From ``(study, cell_id)`` or ``"study:cell_id"`` (the first colon separates)."""
        if not isinstance(value, str):
            return cls(*value)
        study, colon, cell_id = value.partition(":")
        if not colon:
            raise InvalidArgument("cell", f"{value!r} is not STUDY:CELL_ID")
        return cls(study, cell_id)


#: Columns of the groups of a result, and of its tests.
GROUP_COLUMNS = (
    "n_cells", "n_hits", "hit_fraction", "mean", "sd", "max", "median", "p90", "n_samples",
    "sample_hit_fraction_mean", "sample_hit_fraction_median", "n_genes_measured",
    "null_mean", "null_sd", "null_z", "null_p", "null_fdr",
)  # fmt: skip
TEST_COLUMNS = (
    "contrast", "measure", "design", "n_samples", "n_reference", "n_studies", "mean_value", "mean_reference",
    "effect", "effect_low", "effect_high", "hedges_g", "t", "df", "p", "fdr", "random_n_studies",
    "random_effect", "random_low", "random_high", "random_p", "q", "i2", "tau2", "reason",
)  # fmt: skip


def check_group_by(group_by: Sequence[str], columns: Iterable[str] = GROUP_COLUMNS) -> None:
    """Raise `InvalidArgument` if a field stands twice, or is named as one of the result's own ``columns``."""
    if len(set(group_by)) != len(group_by):
        raise InvalidArgument("group_by", f"{', '.join(group_by)} names a field twice")
    if taken := set(group_by) & set(columns):
        raise InvalidArgument(
            "group_by", f"the result has a column {min(taken)!r} of its own; build with that field renamed"
        )


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What `search` is asked. ``k`` best cells; ``group_by`` fields make one group per tuple of values.

    ``min_cells``: samples with fewer cells (of the filter, in the group) are no replicate, groups with fewer
    have no z and p of the null.
    ``min_coverage``: studies that measured a smaller share of the resolved genes are left out.
    ``quantiles`` adds median and p90 of the scores per group. ``strict``: names that are no exact symbols of
    the vocabulary are an error (`InexactGenes`), not resolved or left out.
    ``compare`` tests each group against the rest, ``contrasts`` one value of a field against another, over
    all cells that pass; both take samples as replicates and need ``min_samples`` of them on each side.
    ``null``: the groups' mean scores are compared with those of random signatures, which needs groups and a
    filter made of the atlas's pseudobulk units.
    ``engine``: which one finds the best cells, see `insignia_model.engine.ENGINES`; ``recall_target``: the
    share of the best ``k`` cells (above 0, at most 1) that one which is not exact is to find. ``groups``:
    groups, samples, hits and cut-off, which come from the exact scores of all cells. With the sparse engine
    they cost nothing extra and are always there; faiss leaves them out unless this is True; auto takes faiss
    only if it is False, which says that nobody wants them.
    """

    signature: Signature
    k: int = 100
    where: tuple[Condition, ...] = ()
    group_by: tuple[str, ...] = ("study",)
    hits: HitRule = field(default_factory=HitRule)
    aggregate: str = "mean"
    quantiles: bool = False
    min_cells: int = 10
    min_coverage: float = 0.0
    contrasts: tuple[Contrast, ...] = ()
    compare: bool = False
    min_samples: int = 3
    strict: bool = False
    null: bool = False
    engine: str = "auto"
    recall_target: float = 0.99
    groups: bool | None = None

    def __post_init__(self) -> None:
        whole_numbers(self, "k", "min_cells", "min_samples")
        if self.k < 0:
            raise InvalidArgument("k", f"{self.k} is negative")
        if self.aggregate not in AGGREGATES:
            raise InvalidArgument("aggregate", f"{self.aggregate!r} is not one of {', '.join(AGGREGATES)}")
        if not 1 <= self.min_cells < 1 << 32:
            raise InvalidArgument("min_cells", f"{self.min_cells} is not from 1 to {(1 << 32) - 1}")
        if not 0 <= self.min_coverage <= 1:
            raise InvalidArgument("min_coverage", f"{self.min_coverage} is not from 0 to 1")
        check_group_by(self.group_by)
        if self.has_tests:
            check_group_by(self.group_by, TEST_COLUMNS)
        if len(set(self.contrasts)) != len(self.contrasts):
            raise InvalidArgument("contrasts", f"{', '.join(map(str, self.contrasts))} has one twice")
        if self.compare and not self.group_by:
            raise InvalidArgument(
                "compare", "there is one group of all cells, which has no rest; use group_by"
            )
        if self.min_samples < 2:
            raise InvalidArgument(
                "min_samples", f"{self.min_samples} is below 2, and one sample has no spread"
            )
        check_engine(self.engine, self.recall_target)

    @classmethod
    def of(
        cls,
        signature: SignatureLike,
        *,
        k: int = 100,
        where: WhereLike = None,
        group_by: str | Sequence[str] = ("study",),
        hits: HitRule | str | None = None,
        aggregate: str = "mean",
        quantiles: bool = False,
        min_cells: int = 10,
        min_coverage: float = 0.0,
        contrasts: ContrastsLike = (),
        compare: bool = False,
        min_samples: int = 3,
        strict: bool = False,
        null: bool = False,
        engine: str = "auto",
        recall_target: float = 0.99,
        groups: bool | None = None,
    ) -> SearchRequest:
        """Request from what a person types: see `Signature.of`, `conditions` and `HitRule.parse`."""
        return cls(
            signature=Signature.of(signature),
            k=k,
            where=conditions(where),
            group_by=names(group_by),
            hits=HitRule.of(hits),
            aggregate=aggregate,
            quantiles=quantiles,
            min_cells=min_cells,
            min_coverage=min_coverage,
            contrasts=contrasts_of(contrasts),
            compare=compare,
            min_samples=min_samples,
            strict=strict,
            null=null,
            engine=engine,
            recall_target=recall_target,
            groups=groups,
        )

    @property
    def name(self) -> str:
        """What an answer is called."""
        return self.signature.name

    @property
    def has_negative(self) -> bool:
        """A gene was asked for that should be low."""
        return self.signature.has_negative

    @property
    def has_tests(self) -> bool:
        """Tests with the sample as replicate are asked for."""
        return self.compare or bool(self.contrasts)


def names(value: str | Iterable[str]) -> tuple[str, ...]:
    """Field names from one name or several."""
    if value is None:
        raise InvalidArgument("group_by", "None is no field; () makes one group of all cells")
    return (value,) if isinstance(value, str) else tuple(value)


def whole_numbers(request: object, *fields: str) -> None:
    """Make the fields of a request Python's whole numbers; raises `InvalidArgument`."""
    for name in fields:
        value = getattr(request, name)
        try:
            whole = operator.index(value)
        except TypeError as error:
            raise InvalidArgument(name, f"{value!r} is no whole number") from error
        object.__setattr__(request, name, whole)
