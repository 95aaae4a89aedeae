"""What the catalog says of an atlas's codec and of each study's FAISS files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

#: Policies of `insignia build --faiss`.
KINDS = ("auto", "exact", "projected", "none")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size and xxh3-64 digest of a file."""

    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Measured with so many candidates: recall of the best 100 and 1,000, and time.

    ``mean`` and ``low`` (what can be counted on): by k as text; ``share_of_exact``: time of the search over
    that of the exact engine.
    """

    candidates: int
    mean: dict[str, float]
    low: dict[str, float]
    share_of_exact: float


@dataclass(frozen=True, slots=True)
class FaissRecord:
    """The atlas's part: ``policy`` of KINDS, and the codec that projected studies share.

    ``version``: names the folder of the files; it grows with every training. ``n_dimensions`` and
    ``n_lists`` (of the inverted file; 0: none is worth it) are 0 where no study is projected. ``files``:
    codec, quantiser. ``recall``: by kind of question (signature, profile), by ascending candidates.
    """

    policy: str
    version: int
    n_dimensions: int = 0
    n_lists: int = 0
    n_training: int = 0
    files: dict[str, FileRecord] = field(default_factory=dict)
    recall: dict[str, list[CurvePoint]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `to_json` gave. Raises TypeError, KeyError, ValueError or AttributeError of anything else."""
        values = dict(data)
        values["files"] = {name: FileRecord(**file) for name, file in values["files"].items()}
        values["recall"] = {
            kind: [CurvePoint(**point) for point in points] for kind, points in values["recall"].items()
        }
        record = cls(**values)
        if record.policy not in KINDS or min(record.version, record.n_dimensions, record.n_lists) < 0:
            raise ValueError("its FAISS record is not one")
        return record


@dataclass(frozen=True, slots=True)
class StudyFaiss:
    """A study's part: ``kind`` exact (gene space) or projected; ``kept``: share of squared norm that is left.

    ``files``: the index, and the rows of a projected study, by what they are (index, rows).
    """

    kind: str
    version: int
    kept: float
    files: dict[str, FileRecord]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `asdict` gave. Raises as `FaissRecord.from_json` does."""
        values = dict(data)
        values["files"] = {name: FileRecord(**file) for name, file in values["files"].items()}
        record = cls(**values)
        if record.kind not in ("exact", "projected") or "index" not in record.files:
            raise ValueError("its FAISS record is not one")
        return record
