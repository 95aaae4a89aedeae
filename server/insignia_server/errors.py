"""Errors that only a server has."""

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


class ProcessEnded(ServiceError):
    """One of several server processes ended, and with it all."""

    def __init__(self, name: str, exit_code: int | None) -> None:
        super().__init__(
            f"{name}, one of the server's processes, ended with exit code {exit_code}, and the others were "
            "stopped; the log above may say why; start the server again",
            name=name,
            exit_code=exit_code,
        )
