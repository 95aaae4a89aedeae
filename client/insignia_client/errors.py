"""What can go wrong between a client and its server; all other errors are those of an embedded atlas.

::

    ServiceError
    ├── ServerUnavailable    nobody answers at the target, or the connection broke
    ├── Overloaded           the server has no room for the request (insignia_model.errors)
    ├── DeadlineExceeded     no answer within timeout_s
    ├── CallCancelled        the call was cancelled
    ├── AnswerTooLarge       the answer is over max_message_bytes
    ├── QuestionTooLarge     the request is over the server's limit, or the client's
    ├── IncompatibleServer   what answers does not speak this version of the protocol
    ├── ServerError          the server failed
    └── ClientClosed         the client was used after its close
"""

from __future__ import annotations

import re

from insignia_model.errors import ServiceError

_LOCAL = ("localhost:", "127.0.0.1:", "[::1]:")
#: Kinds of names that gRPC resolves besides HOST:PORT.
_SCHEMES = ("unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:", "vsock:", "xds:")


def is_address(target: str) -> bool:
    """Whether a target is HOST:PORT, or one of gRPC's other names."""
    if target.startswith(_SCHEMES):
        return True
    # gRPC takes a port modulo 65,536
    return re.fullmatch(r"(\[[^\]]+\]|[^\s:/]+):\d{1,5}", target) is not None and _port(target) < 1 << 16


def _port(target: str) -> int:
    return int(target.rpartition(":")[2])


class ServerUnavailable(ServiceError):
    """Nobody answers at the target, or the connection broke."""

    def __init__(self, target: str, problem: str) -> None:
        super().__init__(
            f"no Insignia server answers at {target} ({problem}); {_advice(target, problem)}", target=target
        )


def _advice(target: str, problem: str) -> str:
    said = problem.replace(target, "").replace(target.rpartition(":")[0], "")
    if re.search(r"CERTIFICATE_VERIFY|Hostname Verification|certificate required|handshake failed", said):
        return "what listens there was not accepted as its host: check the certificates, the CA and the name"
    if re.search(r"Expected SETTINGS|WRONG_VERSION_NUMBER|before receiving SETTINGS", said):
        return "what listens there does not speak gRPC, or wants TLS, or wants none"
    if re.search(r"status: 50[234]", said):
        return "what listens there is a proxy that has no server behind it"
    if target.startswith(_LOCAL):
        return f"`insignia serve ATLAS --listen {target}` starts one"
    return "see that it runs, listens to other machines, and that no firewall is between"


class DeadlineExceeded(ServiceError):
    """No answer within the time-out."""

    def __init__(self, target: str, timeout_s: float | None) -> None:
        after = "in time" if timeout_s is None else f"within {timeout_s:g} s"
        super().__init__(
            f"{target} did not answer {after}; give the call a larger timeout_s, or ask for less",
            target=target,
            timeout_s=timeout_s,
        )


class CallCancelled(ServiceError):
    """The call was cancelled before it was answered."""

    def __init__(self, target: str) -> None:
        super().__init__(f"the call to {target} was cancelled", target=target)


class AnswerTooLarge(ServiceError):
    """The answer is larger than this client accepts."""

    def __init__(self, target: str, problem: str) -> None:
        super().__init__(
            f"the answer of {target} is too large ({problem}); ask for fewer cells, or make the client "
            "with a larger max_message_bytes",
            target=target,
        )


class QuestionTooLarge(ServiceError):
    """The request is larger than the server accepts, or than the client was told to send."""

    def __init__(self, target: str, problem: str) -> None:
        here = "client a larger max_message_bytes"
        there = "server have a larger --max-message-bytes"
        super().__init__(
            f"the request is too large for {target} ({problem}); ask with fewer or shorter names, or "
            f"{f'give the {here}' if 'Sent message' in problem else f'let the {there}'}",
            target=target,
        )


class IncompatibleServer(ServiceError):
    """What answers does not speak this version of the protocol."""

    def __init__(self, target: str, problem: str) -> None:
        super().__init__(
            f"{target} is no Insignia server that this version of the client understands ({problem}); "
            "check the address, and install the same version on both sides",
            target=target,
        )


class ServerError(ServiceError):
    """The server failed; its log knows more."""

    def __init__(self, target: str, problem: str) -> None:
        super().__init__(f"the server at {target} failed: {problem}; its log says more", target=target)


class ClientClosed(ServiceError):
    """The client was used after its close."""

    def __init__(self, target: str) -> None:
        super().__init__(f"the client of {target} is closed; make a new one", target=target)
