"""The error that only a server has."""

from __future__ import annotations

from insignia_model.errors import ServiceError


class CannotListen(ServiceError):
    """The address cannot be served."""

    def __init__(self, listen: str) -> None:
        super().__init__(
            f"cannot listen on {listen}: the port is taken, or the host is none of this machine's; "
            "--listen 127.0.0.1:0 takes a free port",
            listen=listen,
        )
