"""The atlas: its format, and everything that reads or writes it.

>>> from insignia_index import Atlas
>>> with Atlas.open("my.atlas") as atlas:
...     result = atlas.search(["IFIT1", "ISG15", "MX1"], group_by=("study", "condition"))
...     result.groups
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from insignia_index.atlas import Atlas
from insignia_index.cancel import CancelToken
from insignia_model import (
    CellId,
    Condition,
    Contrast,
    DeRule,
    Explanation,
    HitRule,
    ScreenRequest,
    SearchRequest,
    SearchResult,
    Signature,
    Signatures,
    SimilarRequest,
    ge,
    gt,
    is_missing,
    le,
    lt,
    not_in,
    read_gmt,
    read_signatures,
)
from insignia_model.errors import InsigniaError

if TYPE_CHECKING:
    from insignia_index.build.build import build_atlas, remove_studies
    from insignia_index.build.inputs import InputFile
    from insignia_index.verify import verify_atlas

__all__ = [
    "Atlas",
    "CancelToken",
    "CellId",
    "Condition",
    "Contrast",
    "DeRule",
    "Explanation",
    "HitRule",
    "InputFile",
    "InsigniaError",
    "ScreenRequest",
    "SearchRequest",
    "SearchResult",
    "Signature",
    "Signatures",
    "SimilarRequest",
    "build_atlas",
    "ge",
    "gt",
    "is_missing",
    "le",
    "lt",
    "not_in",
    "read_gmt",
    "read_signatures",
    "remove_studies",
    "verify_atlas",
]

# A search needs neither pandas nor scipy, which take half a second to import.
_ON_DEMAND = {
    "build_atlas": "insignia_index.build.build",
    "remove_studies": "insignia_index.build.build",
    "InputFile": "insignia_index.build.inputs",
    "verify_atlas": "insignia_index.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ON_DEMAND[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
