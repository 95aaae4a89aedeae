"""gRPC errors to typed ones."""

from __future__ import annotations

import re
from typing import Any

import grpc

from insignia_client import errors
from insignia_model.errors import InsigniaError, Overloaded, RequestError

DOMAIN = "insignia"
DETAILS = "grpc-status-details-bin"  # trailer with a serialised google.rpc.Status

#: What a status says about an error whose reason this version does not know.
REQUEST_CODES = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)


def typed(error: grpc.RpcError, target: str, timeout_s: float | None) -> InsigniaError:
    """Error that the server reported in google.rpc details, or else the one that the status stands for."""
    return _reported(error) or _by_status(error.code(), error.details() or "", target, timeout_s)


def _reported(error: grpc.RpcError) -> InsigniaError | None:
    # only a call that failed pays for these imports
    from google.protobuf.message import DecodeError
    from google.rpc.error_details_pb2 import ErrorInfo
    from google.rpc.status_pb2 import Status

    trailers: Any = error.trailing_metadata() or ()
    # pair by pair: before grpcio 1.80 dict() cannot read those of asyncio
    details = next((value for key, value in trailers if key == DETAILS), None)
    if not isinstance(details, bytes):
        return None
    try:
        status, info = Status.FromString(details), ErrorInfo()
        for detail in status.details:
            if detail.Unpack(info) and info.domain == DOMAIN:
                return _rebuilt(info.reason, status.message, dict(info.metadata), error.code())
    except DecodeError:  # not from an Insignia server: its status has to do
        pass
    return None


def _rebuilt(reason: str, message: str, data: dict[str, str], code: grpc.StatusCode) -> InsigniaError:
    if reason in InsigniaError.by_reason:
        return InsigniaError.from_wire(reason, message, data)
    # the server is newer than this client, or failed in a way that it does not tell
    unknown = RequestError if code in REQUEST_CODES else errors.ServerError
    return unknown.from_wire(reason, message, data)


def _by_status(code: grpc.StatusCode, details: str, target: str, timeout_s: float | None) -> InsigniaError:
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return errors.ServerUnavailable(target, details)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return errors.DeadlineExceeded(target, timeout_s)
        case grpc.StatusCode.CANCELLED:
            return errors.CallCancelled(target)
        case grpc.StatusCode.UNIMPLEMENTED:
            return errors.IncompatibleServer(target, details)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if re.match("SERVER: Received|CLIENT: Sent", details):
            return errors.QuestionTooLarge(target, details)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in details:
            return errors.AnswerTooLarge(target, details)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded.from_wire(Overloaded.reason, f"{target} is busy: {details}", {})
        case _ if code in REQUEST_CODES:
            return RequestError(details)
        case _:
            return errors.ServerError(target, f"{code.name}: {details}")
