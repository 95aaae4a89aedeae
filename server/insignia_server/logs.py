"""Logging of the server's processes."""

from __future__ import annotations

import logging

from insignia_model.errors import InvalidArgument


def log_to_stderr(level: str) -> None:
    """Log from a level on, as DEBUG or INFO, to standard error; raises `InvalidArgument` if it is none."""
    levels = logging.getLevelNamesMapping()
    if level.upper() not in levels:
        raise InvalidArgument("log_level", f"{level!r} is not one of {', '.join(levels)}")
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
