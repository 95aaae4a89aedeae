"""Errors to gRPC statuses: the one table, and the one place that aborts an RPC."""

from __future__ import annotations

import logging
import secrets
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status.rpc_status import to_status

from insignia_model import errors
from insignia_model.errors import InsigniaError
from insignia_server.errors import CannotListen, ProcessEnded

log = logging.getLogger(__name__)

DOMAIN = "insignia"

#: A subclass that is not listed has its parent's status. What a server never raises is INTERNAL.
CODES: dict[type[InsigniaError], grpc.StatusCode] = {
    errors.InsigniaError: grpc.StatusCode.INTERNAL,
    errors.RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidSignature: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NoGeneResolved: grpc.StatusCode.NOT_FOUND,
    errors.InexactGenes: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownField: grpc.StatusCode.INVALID_ARGUMENT,
    errors.FieldNotComparable: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NoPseudobulk: grpc.StatusCode.FAILED_PRECONDITION,
    errors.GroupsNotWhole: grpc.StatusCode.INVALID_ARGUMENT,
    errors.EngineUnavailable: grpc.StatusCode.FAILED_PRECONDITION,
    errors.EmptyProfile: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StudyNotFound: grpc.StatusCode.NOT_FOUND,
    errors.CellNotFound: grpc.StatusCode.NOT_FOUND,
    # not RESOURCE_EXHAUSTED, which may be tried again: the same request will never pass
    errors.LimitExceeded: grpc.StatusCode.INVALID_ARGUMENT,
    errors.SearchCancelled: grpc.StatusCode.CANCELLED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.AtlasError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.AtlasNotFound: grpc.StatusCode.FAILED_PRECONDITION,
    errors.AtlasClosed: grpc.StatusCode.UNAVAILABLE,
    errors.AtlasReplaced: grpc.StatusCode.FAILED_PRECONDITION,
    errors.AtlasLocked: grpc.StatusCode.UNAVAILABLE,
    errors.AtlasCorrupt: grpc.StatusCode.DATA_LOSS,
    errors.UnsupportedFormat: grpc.StatusCode.FAILED_PRECONDITION,
    errors.TooManyReaders: grpc.StatusCode.UNAVAILABLE,
    errors.StorageFull: grpc.StatusCode.UNAVAILABLE,
    errors.InputError: grpc.StatusCode.INTERNAL,
    errors.ServiceError: grpc.StatusCode.INTERNAL,
    errors.MissingExtra: grpc.StatusCode.INTERNAL,
    errors.DeviceNotFound: grpc.StatusCode.INTERNAL,
    CannotListen: grpc.StatusCode.INTERNAL,
    ProcessEnded: grpc.StatusCode.INTERNAL,
}

# Clients refuse trailers above 8 KiB. The message travels twice, once percent-encoded (three times as long at
# worst), and the details in base64.
MESSAGE_BYTES = 800
VALUE_BYTES = 1_000
DATA_BYTES = 2_000


def code_of(error: InsigniaError) -> grpc.StatusCode:
    """Status of an error: its class's, or that of the nearest ancestor in the table."""
    return next(CODES[cls] for cls in type(error).__mro__ if cls in CODES)


def rich_status(error: InsigniaError) -> grpc.Status:
    """Status with google.rpc.ErrorInfo: reason and data of the error, long texts cut."""
    info = ErrorInfo(domain=DOMAIN, reason=error.reason)
    room = DATA_BYTES
    for name, value in error.data.items():
        info.metadata[name] = shown = _cut(value, min(VALUE_BYTES, room))
        room = max(0, room - len(shown.encode()))
    detail = AnyMessage()
    detail.Pack(info)
    code: int = code_of(error).value[0]
    return to_status(Status(code=code, message=_cut(error.message, MESSAGE_BYTES), details=[detail]))


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    """End the RPC with the status of ``error``; what is no InsigniaError is told to the log alone."""
    status = rich_status(reported(error))
    await context.abort(status.code, status.details, status.trailing_metadata)


def reported(error: Exception) -> InsigniaError:
    """What the client may know of an error."""
    if isinstance(error, InsigniaError):
        if isinstance(error, errors.AtlasError):
            log.error("%s", error)
        return error
    reference = secrets.token_hex(4)
    log.error("internal error %s", reference, exc_info=error)
    return InsigniaError(f"internal error; the server's log has it under {reference}", reference=reference)


def _cut(text: str, n_bytes: int) -> str:
    """Text of at most ``n_bytes`` of UTF-8, ending in an ellipsis if something was cut off."""
    raw = text.encode(errors="replace")
    if len(raw) <= n_bytes:
        return raw.decode()
    return raw[: max(0, n_bytes - 3)].decode(errors="ignore") + "…"
