"""What stops a server."""

from __future__ import annotations

import signal


def stop_signals() -> list[signal.Signals]:
    """Signals that stop a server: also that its terminal is gone, unless it runs under `nohup`."""
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if is_ignored else [signal.SIGHUP])]
