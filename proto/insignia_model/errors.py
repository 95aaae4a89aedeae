"""What can go wrong, one class per kind, one tree for embedded and served use.

::

    InsigniaError
    ├── RequestError             the question cannot be answered as asked
    │   ├── InvalidArgument      a value is out of its range or malformed
    │   ├── InvalidSignature     no genes, a weight that is not finite, an unreadable file
    │   ├── NoGeneResolved       nothing of the signature can be used
    │   ├── InexactGenes         a name that is no exact symbol, where nothing else is allowed
    │   ├── UnknownField         no study has the metadata field
    │   ├── FieldNotComparable   an order comparison on a field that is not a number
    │   ├── NoPseudobulk         the atlas keeps no sums, which the null needs
    │   ├── GroupsNotWhole       groups or a filter divide the units that sums are kept of
    │   ├── EngineUnavailable    the engine that is asked for cannot answer from this atlas
    │   ├── EmptyProfile         cells that are to be compared with have no attributions, or there are none
    │   ├── StudyNotFound
    │   ├── CellNotFound
    │   ├── LimitExceeded        the server's limit for this request
    │   └── SearchCancelled      the caller went away or its deadline passed
    ├── AtlasError               the atlas directory
    │   ├── AtlasNotFound
    │   ├── AtlasClosed          used after its close
    │   ├── AtlasReplaced        its directory is no longer there, or another one is
    │   ├── AtlasLocked          another writer is at work
    │   ├── TooManyReaders       so many have it open that nobody else can
    │   ├── AtlasCorrupt         a file is not what the catalog says it is
    │   ├── UnsupportedFormat    written by a version that this one cannot read
    │   └── StorageFull
    ├── InputError               a file to be indexed (one class per way it can be bad, in insignia_index)
    ├── ServiceError             reaching the server (insignia_client.errors has the ways)
    │   └── Overloaded           the server has no room for the request; it may be sent again
    ├── MissingExtra             a part of Insignia that is not installed
    └── DeviceNotFound           a GPU was asked for that is not there, or cannot be used

An error carries its data as attributes and as ``data`` (strings), so that it can cross a wire:
``reason`` names the class, `from_wire` builds it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self


class InsigniaError(Exception):
    """Base of all errors of Insignia; ``str(error)`` says what, where, and what to do next."""

    reason: ClassVar[str] = "INSIGNIA_ERROR"
    by_reason: ClassVar[dict[str, type[InsigniaError]]] = {}

    def __init_subclass__(cls) -> None:
        cls.reason = "".join("_" + c if c.isupper() else c for c in cls.__name__).lstrip("_").upper()
        InsigniaError.by_reason[cls.reason] = cls

    def __init__(self, message: str, **data: object) -> None:
        super().__init__(message)
        self.message = message
        self.data = {name: str(value) for name, value in data.items()}
        self.__dict__.update(data)

    @classmethod
    def from_wire(cls, reason: str, message: str, data: dict[str, str]) -> InsigniaError:
        """Error of the class that ``reason`` names (this class if nobody knows it), data as strings."""
        return cls.by_reason.get(reason, cls)._rebuilt(message, data)

    @classmethod
    def _rebuilt(cls, message: str, data: dict[str, str]) -> Self:
        error = cls.__new__(cls)
        InsigniaError.__init__(error, message)
        # data of another machine: it must not take the place of what every error has
        error.data = dict(data)
        error.__dict__ = data | error.__dict__
        return error

    def __reduce__(self) -> tuple[object, ...]:
        # the classes' arguments differ, so that Exception's own way cannot make them again
        return InsigniaError.from_wire, (self.reason, self.message, self.data), self.__dict__


class RequestError(InsigniaError):
    """The question cannot be answered as asked."""


class InvalidArgument(RequestError):
    """A value is out of its range or malformed."""

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"{argument}: {problem}", argument=argument)


class InvalidSignature(RequestError):
    """A signature that cannot be used, or a file of signatures that cannot be read."""

    def __init__(self, signature: str, problem: str) -> None:
        super().__init__(f"signature {signature!r}: {problem}", signature=signature)


class NoGeneResolved(RequestError):
    """Nothing of the signature can be used; ``problems``: name → why."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__(
            f"no gene of the signature can be used: {_listed(problems)}; "
            "`insignia genes` shows how names resolve",
            names=",".join(problems),
        )


class InexactGenes(RequestError):
    """Names that are no exact symbols of the vocabulary, where nothing else is allowed (``strict``)."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__(
            f"strict: {len(problems):,} of the gene names are not exact symbols of the atlas: "
            f"{_listed(problems)}; "
            "write the symbols, or ask without strict",
            names=",".join(problems),
        )


class UnknownField(RequestError):
    """No study has the metadata field."""

    def __init__(self, field: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"no study has the metadata field {field!r}; fields: {', '.join(known)}",
            field=field,
            known=",".join(known),
        )


class FieldNotComparable(RequestError):
    """An order comparison on a field that is not a number."""

    def __init__(self, field: str, kind: str, op: str) -> None:
        super().__init__(
            f"field {field!r} is a {kind}, so it has no {op!r}; use = or != with its values", field=field
        )


class NoPseudobulk(RequestError):
    """The atlas keeps no pseudobulk sums, which the null of random signatures needs."""

    def __init__(self, atlas: object) -> None:
        super().__init__(
            f"the atlas {atlas} keeps no pseudobulk sums; build it anew with "
            "`insignia build --pseudobulk sample,cell_type NEW FILE...`, or ask without the null",
            atlas=str(atlas),
        )


class GroupsNotWhole(RequestError):
    """A field of the groups or of the filter divides units that pseudobulk sums are kept of."""

    def __init__(self, field: str, study: str, kept: tuple[str, ...]) -> None:
        super().__init__(
            f"the field {field!r} divides cells of one ({', '.join(('study', *kept))}) of study {study!r}, "
            "and the null only knows their sums; group and filter by these fields, or build the atlas "
            "anew with "
            f"`insignia build --pseudobulk {','.join((*kept, field))}`",
            field=field,
            study=study,
            kept=",".join(kept),
        )


class EngineUnavailable(RequestError):
    """The engine that is asked for cannot answer from this atlas."""

    def __init__(self, engine: str, problem: str, advice: str) -> None:
        super().__init__(f"engine {engine}: {problem}; {advice}", engine=engine, problem=problem)


class EmptyProfile(RequestError):
    """The cells that others are to be compared with have no attributions, or there are no such cells."""

    def __init__(self, query: str, problem: str) -> None:
        super().__init__(f"{query}: {problem}, so that no cell is like it", query=query)


class StudyNotFound(RequestError):
    """The atlas has no such study."""

    def __init__(self, study: str) -> None:
        super().__init__(f"the atlas has no study {study!r}; `insignia studies` lists them", study=study)


class CellNotFound(RequestError):
    """The study has no such cell."""

    def __init__(self, study: str, cell_id: str) -> None:
        super().__init__(f"study {study!r} has no cell {cell_id!r}", study=study, cell_id=cell_id)


class LimitExceeded(RequestError):
    """A limit of the server for this request."""

    def __init__(self, what: str, asked: int, limit: int, advice: str) -> None:
        super().__init__(
            f"{what}: {asked:,} is over this server's limit of {limit:,}; {advice}", what=what, limit=limit
        )


class SearchCancelled(RequestError):
    """The caller went away or its deadline passed; the work was stopped."""

    def __init__(self) -> None:
        super().__init__("the search was cancelled before it was complete")


class AtlasError(InsigniaError):
    """The atlas directory cannot be used as it is."""


class AtlasNotFound(AtlasError):
    """There is no atlas at the path."""

    def __init__(self, path: object) -> None:
        super().__init__(f"no atlas at {path}; `insignia build {path} FILE...` makes one", path=str(path))


class AtlasClosed(AtlasError):
    """The atlas was used after its close."""

    def __init__(self, path: object) -> None:
        super().__init__(f"the atlas {path} is closed; open it again", path=str(path))


class AtlasReplaced(AtlasError):
    """Where the atlas was opened, it is no longer."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"the atlas {path} that is open was removed, or another one was put in its place; "
            "what is open still answers, until it is opened again (a server: started again)",
            path=str(path),
        )


class AtlasLocked(AtlasError):
    """Another writer has the atlas."""

    def __init__(self, path: object, holder: str) -> None:
        super().__init__(
            f"atlas {path} is being written by another process ({holder}); wait for it to end", path=str(path)
        )


class TooManyReaders(AtlasError):
    """So many have the atlas open that nobody else can."""

    def __init__(self, path: object, most: int) -> None:
        super().__init__(
            f"{path}: {most:,} readers have it open, and no more can; end some, or ask a server",
            path=str(path),
        )


class AtlasCorrupt(AtlasError):
    """A file of the atlas is not what the catalog says it is."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(
            f"{path}: {problem}; restore the file, or rebuild its study with `insignia add --replace`",
            path=str(path),
        )


class UnsupportedFormat(AtlasError):
    """Written by a version that this one cannot read."""

    def __init__(self, path: object, found: object, readable: str) -> None:
        super().__init__(
            f"{path}: format version {found}, this version of insignia reads {readable}; "
            "upgrade insignia, or rebuild the atlas",
            path=str(path),
            found=str(found),
        )


class StorageFull(AtlasError):
    """No space left where the atlas is written; nothing was published."""

    def __init__(self, path: object) -> None:
        super().__init__(f"no space left on the device of {path}; nothing was published", path=str(path))


class InputError(InsigniaError):
    """A file to be indexed cannot be used; nothing was published."""


class ServiceError(InsigniaError):
    """The server could not be reached or failed."""


class Overloaded(ServiceError):
    """As many requests wait, or streams are open, as may; nothing was done."""

    def __init__(self, limit: int, what: str = "requests wait") -> None:
        super().__init__(f"the server is busy: {limit:,} {what} already; try again in a moment", limit=limit)


class MissingExtra(InsigniaError):
    """A part of Insignia whose dependencies are not installed."""

    def __init__(self, what: str, extra: str, module: str) -> None:
        super().__init__(
            f"{what} needs pip install 'insignia[{extra}]' (there is no module {module!r} yet)",
            extra=extra,
            module=module,
        )


class DeviceNotFound(InsigniaError):
    """A device was asked for that is not there, or that cannot be used."""

    def __init__(self, device: str, problem: str) -> None:
        super().__init__(
            f"no device {device!r}: {problem}; 'auto' takes a GPU only where there is one, 'cpu' needs none",
            device=device,
            problem=problem,
        )


def _listed(problems: Mapping[str, str]) -> str:
    """Names with what is wrong with each, or together if that is the same of all."""
    names = list(problems)[:10]
    more = f" and {len(problems) - 10:,} more" if len(problems) > 10 else ""
    if len(set(problems.values())) == 1:
        return f"{', '.join(names)}{more} ({problems[names[0]]})"
    return "; ".join(f"{name} ({problems[name]})" for name in names) + more
