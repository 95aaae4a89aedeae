"""The figure of every picture. Imports matplotlib, so that it is imported only when something is drawn."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """Figure that a notebook shows without pyplot's global state."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=120, bbox_inches="tight")
        return file.getvalue()
