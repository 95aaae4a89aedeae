"""Which engine is to find the best cells, and how many of them it may miss."""

from __future__ import annotations

from insignia_model.errors import InvalidArgument

#: Engine: what it is. What answers is told in the result.
ENGINES = {
    "auto": "faiss where no groups are wanted, and it is expected to be cheaper and to reach the recall "
    "target; else sparse",
    "sparse": "the exact scores of all cells",
    "faiss": "candidates of a dense index, re-scored exactly",
}


def check_engine(engine: str, recall_target: float) -> None:
    """Raise `InvalidArgument` for an engine that does not exist or a recall that is none."""
    if engine not in ENGINES:
        raise InvalidArgument("engine", f"{engine!r} is not one of {', '.join(ENGINES)}")
    if not 0 < recall_target <= 1:
        raise InvalidArgument("recall_target", f"{recall_target} is not above 0 and at most 1")
