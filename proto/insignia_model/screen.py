"""Screens: many signatures, one row per (signature, group)."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from insignia_model.condition import Condition, WhereLike, conditions
from insignia_model.errors import InvalidArgument, RequestError
from insignia_model.fdr import false_discovery_rate
from insignia_model.hits import HitRule
from insignia_model.request import SearchRequest, check_group_by, names, whole_numbers
from insignia_model.signature import Signature, SignatureLike, printable
from insignia_model.table import Column, Table

if TYPE_CHECKING:
    import pandas as pd

SignaturesLike: TypeAlias = Mapping[str, SignatureLike] | Iterable[Signature]


#: Columns of a screen's rows besides those of groups.
_COLUMNS = ("signature", "n_genes", "n_genes_missing", "leading_genes", "reason")


@dataclass(frozen=True, slots=True)
class ScreenRequest:
    """What every signature of a screen is asked.

    ``hits``: None asks for mean scores alone, which an atlas with a pseudobulk answers much faster.
    ``n_leading``: so many genes that add most to a group's mean score are named in its row. ``null``: as in
    `SearchRequest`, as are the other fields, but that its p is not refined by sampling; its FDR, over all
    rows, is `with_fdr`'s.
    """

    where: tuple[Condition, ...] = ()
    group_by: tuple[str, ...] = ("study",)
    hits: HitRule | None = field(default_factory=HitRule)
    aggregate: str = "mean"
    min_cells: int = 10
    strict: bool = False
    null: bool = False
    n_leading: int = 0

    def __post_init__(self) -> None:
        whole_numbers(self, "n_leading")
        if not 0 <= self.n_leading < 1 << 32:
            raise InvalidArgument("n_leading", f"{self.n_leading} is not from 0 to {(1 << 32) - 1}")
        check_group_by(self.group_by, _COLUMNS)
        self.search(Signature({"A": 1.0}))  # checks the rest

    @classmethod
    def of(
        cls,
        *,
        where: WhereLike = None,
        group_by: str | Sequence[str] = ("study",),
        hits: HitRule | str | None = "percentile:95",
        aggregate: str = "mean",
        min_cells: int = 10,
        strict: bool = False,
        null: bool = False,
        n_leading: int = 0,
    ) -> ScreenRequest:
        """Request from what a person types; see `SearchRequest.of`."""
        return cls(
            where=conditions(where),
            group_by=names(group_by),
            hits=None if hits is None else HitRule.of(hits),
            aggregate=aggregate,
            min_cells=min_cells,
            strict=strict,
            null=null,
            n_leading=n_leading,
        )

    def search(self, signature: Signature) -> SearchRequest:
        """The single search whose groups a screen's rows of this signature are."""
        return SearchRequest(
            signature,
            k=0,
            where=self.where,
            group_by=self.group_by,
            hits=self.hits or HitRule(),
            aggregate=self.aggregate,
            min_cells=self.min_cells,
            strict=self.strict,
            null=self.null,
        )


@dataclass(frozen=True, slots=True)
class ScreenPlan:
    """How a screen is done: so many signatures at a time, with so much memory for their scores."""

    n_cells: int
    n_per_batch: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class ScreenChunk:
    """Rows of the next ``n_signatures`` signatures, in their order; of each, best groups first."""

    n_signatures: int
    table: Table


class ScreenStream(Iterator[ScreenChunk]):
    """Chunks of a screen, made as they are asked for."""

    def __init__(self, chunks: Generator[ScreenChunk, None, None], plan: ScreenPlan) -> None:
        self._chunks = chunks
        self.plan = plan

    def __next__(self) -> ScreenChunk:
        return next(self._chunks)

    def __repr__(self) -> str:
        return f"<ScreenStream over {self.plan.n_cells:,} cells; .to_frame() reads all rows>"

    def close(self) -> None:
        """Stop; there is no further chunk."""
        self._chunks.close()

    def to_table(self) -> Table:
        """All rows that are left, with their FDR."""
        return with_fdr(concatenated([chunk.table for chunk in self]))

    def to_frame(self) -> pd.DataFrame:
        """All rows that are left, as a pandas frame."""
        return self.to_table().to_frame()


class AsyncScreenStream(AsyncIterator[ScreenChunk]):
    """`ScreenStream` for asyncio; leave it early through `contextlib.aclosing`, which closes it at once.

    ``plan`` is None until the first chunk has come.
    """

    def __init__(self, answers: AsyncGenerator[ScreenPlan | ScreenChunk, None]) -> None:
        self._answers = answers
        self.plan: ScreenPlan | None = None

    async def __anext__(self) -> ScreenChunk:
        async for answer in self._answers:
            if isinstance(answer, ScreenChunk):
                return answer
            self.plan = answer
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop; there is no further chunk."""
        await self._answers.aclose()

    async def to_table(self) -> Table:
        """All rows that are left, with their FDR."""
        return with_fdr(concatenated([chunk.table async for chunk in self]))

    async def to_frame(self) -> pd.DataFrame:
        """All rows that are left, as a pandas frame."""
        return (await self.to_table()).to_frame()


def signatures_of(signatures: SignaturesLike) -> Iterator[Signature | SkippedSignature]:
    """Signatures of a screen, each checked when its turn comes: a bad one is skipped with its reason."""
    items = (
        signatures.items()
        if isinstance(signatures, Mapping) or hasattr(signatures, "items")  # as a Series has
        else ((getattr(signature, "name", "signature"), signature) for signature in signatures)
    )
    for key, value in items:
        name = "signature" if key is None else str(key)
        try:
            yield replace(Signature.of(value, name), name=name)
        except RequestError as error:
            yield SkippedSignature(printable(name), str(error))


@dataclass(frozen=True, slots=True)
class SkippedSignature:
    """A signature that cannot be searched, and why."""

    name: str
    reason: str


def with_fdr(table: Table) -> Table:
    """The rows of a whole screen with null_fdr behind null_p, over all of them."""
    if "null_p" not in table.columns:
        return table
    columns: dict[str, Column] = {}
    for name, column in table.columns.items():
        columns[name] = column
        if name == "null_p":
            columns["null_fdr"] = Column.numbers(false_discovery_rate(column.values))
    return Table(columns)


def concatenated(tables: Sequence[Table]) -> Table:
    """Rows of tables with the same columns, one after the other."""
    if len(tables) == 1:
        return tables[0]
    columns = tables[0].columns if tables else {}
    return Table({name: _joined([table[name] for table in tables]) for name in columns})


def _joined(columns: Sequence[Column]) -> Column:
    values = [column.values for column in columns]
    kinds = {column.kind for column in columns}
    if kinds == {"category"}:
        dictionary = list(dict.fromkeys(name for column in columns for name in column.dictionary))
        place = {name: i for i, name in enumerate(dictionary)}
        values = [_recoded(column, place) for column in columns]
        return Column("category", np.concatenate(values), tuple(dictionary))
    if len(kinds) > 1:
        # a chunk without any value of a field does not know the field's kind
        return Column.of([value for column in columns for value in column.to_list()])
    masks = [np.zeros(len(c), np.bool_) if c.missing is None else c.missing for c in columns]
    any_missing = any(mask.any() for mask in masks)
    return Column(
        columns[0].kind, np.concatenate(values), missing=np.concatenate(masks) if any_missing else None
    )


def _recoded(column: Column, place: dict[str, int]) -> npt.NDArray[np.int32]:
    codes = np.array([place[name] for name in column.dictionary] + [-1], np.int32)
    recoded: npt.NDArray[np.int32] = codes[column.values]  # code -1, missing, is the last
    return recoded
