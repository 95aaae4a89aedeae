"""A request for similar cells: the question, checked once, in the form that the engine and the wire take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeGuard

from insignia_model.condition import Condition, WhereLike, conditions
from insignia_model.engine import check_engine
from insignia_model.errors import InvalidArgument
from insignia_model.hits import HitRule
from insignia_model.request import CellId, check_group_by, names, whole_numbers
from insignia_model.signature import Signature, SignatureLike

CellLike: TypeAlias = CellId | tuple[str, str] | str


@dataclass(frozen=True, slots=True)
class SimilarRequest:
    """What `similar` is asked: the cells whose attributions are most like a profile.

    The profile p is that of one of: ``cells`` (one, or the mean of several; a cell given twice counts once),
    ``centroid`` (the mean of all cells that pass this filter; no condition: of all cells), ``profile``
    ({gene: value}). The score of a cell c is the inner product sum_g p_g A[c, g] over all genes: that of a
    search with the weights p and the aggregate "sum".

    ``cells`` are not among the answered cells: they are left out as if a filter did it, and count in no
    group. The cells of a ``centroid`` stay: they are a population, not the question. ``exclude_study`` leaves
    out the studies of the query's cells as well. ``where`` says which cells may be found; ``strict`` concerns
    the gene names of ``profile``. The other options: see `SearchRequest`.
    """

    cells: tuple[CellId, ...] = ()
    centroid: tuple[Condition, ...] | None = None
    profile: Signature | None = None
    k: int = 100
    where: tuple[Condition, ...] = ()
    group_by: tuple[str, ...] = ("study",)
    hits: HitRule = field(default_factory=HitRule)
    quantiles: bool = False
    min_cells: int = 10
    exclude_study: bool = False
    strict: bool = False
    engine: str = "auto"
    recall_target: float = 0.99
    groups: bool | None = None

    def __post_init__(self) -> None:
        n_queries = bool(self.cells) + (self.centroid is not None) + (self.profile is not None)
        if n_queries != 1:
            raise InvalidArgument(
                "query", f"it is one of cells, centroid and profile; {n_queries or 'none'} of them given"
            )
        if self.exclude_study and self.profile is not None:
            raise InvalidArgument(
                "exclude_study", "a profile comes from no study; leave studies out by where"
            )
        whole_numbers(self, "k", "min_cells")
        if self.k < 0:
            raise InvalidArgument("k", f"{self.k} is negative")
        if not 1 <= self.min_cells < 1 << 32:
            raise InvalidArgument("min_cells", f"{self.min_cells} is not from 1 to {(1 << 32) - 1}")
        check_group_by(self.group_by)
        check_engine(self.engine, self.recall_target)

    @classmethod
    def of(
        cls,
        cells: CellLike | Iterable[CellLike] | None = None,
        *,
        centroid: WhereLike = None,
        profile: SignatureLike | None = None,
        k: int = 100,
        where: WhereLike = None,
        group_by: str | Sequence[str] = ("study",),
        hits: HitRule | str | None = None,
        quantiles: bool = False,
        min_cells: int = 10,
        exclude_study: bool = False,
        strict: bool = False,
        engine: str = "auto",
        recall_target: float = 0.99,
        groups: bool | None = None,
    ) -> SimilarRequest:
        """Request from what a person types: ``"study:cell_id"`` or several, see also `SearchRequest.of`."""
        return cls(
            cells=() if cells is None else cell_ids(cells),
            centroid=None if centroid is None else conditions(centroid),
            profile=None if profile is None else Signature.of(profile, "profile"),
            k=k,
            where=conditions(where),
            group_by=names(group_by),
            hits=HitRule.of(hits),
            quantiles=quantiles,
            min_cells=min_cells,
            exclude_study=exclude_study,
            strict=strict,
            engine=engine,
            recall_target=recall_target,
            groups=groups,
        )

    @property
    def aggregate(self) -> str:
        """How a cell's weighted sum becomes its score: an inner product is the sum itself."""
        return "sum"

    @property
    def has_negative(self) -> bool:
        """A gene was asked for that should be low."""
        return self.profile is not None and self.profile.has_negative

    @property
    def name(self) -> str:
        """What an answer is called."""
        if self.profile is not None:
            return self.profile.name
        if self.centroid is not None:
            chosen = " and ".join(map(str, self.centroid)) or "all cells"
            return f"cells like the centroid of {chosen}"
        more = len(self.cells) - 1
        others = f" and {more:,} other{'s' if more > 1 else ''}" if more else ""
        return f"cells like {':'.join(self.cells[0])}{others}"


def cell_ids(value: CellLike | Iterable[CellLike]) -> tuple[CellId, ...]:
    """Identities of one cell or several; one that is given twice is named once."""
    several = (value,) if isinstance(value, str) or _is_pair(value) else value
    found = tuple(dict.fromkeys(map(CellId.of, several)))
    if not found:
        raise InvalidArgument("cells", "there is none")
    return found


def _is_pair(value: object) -> TypeGuard[tuple[str, str]]:
    """A plain tuple ``(study, cell_id)``, not one of two texts ``"study:cell_id"``."""
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(part, str) for part in value)
        and (isinstance(value, CellId) or ":" not in value[0])
    )
