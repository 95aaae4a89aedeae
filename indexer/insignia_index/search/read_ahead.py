"""Reading the next signatures of a screen, and planning them, while earlier ones are scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice

from insignia_index.search.plan import Query
from insignia_model.screen import SkippedSignature
from insignia_model.signature import Signature

Item = Signature | SkippedSignature
#: A signature and what to score, or the reason why nothing can be.
Planned = tuple[Item, Query | str]

#: Between two signatures, so that a search that wants the interpreter need not wait for its turn, which
#: comes every 5 ms: it wants it some twenty times. A pause of nothing at all would not hand it over.
_PAUSE_S = 1e-6


class ReadAhead:
    """Planned signatures of a source, a batch at a time. For one thread."""

    def __init__(self, source: Iterator[Item], n_per_batch: int, plan: Callable[[Item], Query | str]) -> None:
        self._source = source
        self._n_per_batch = n_per_batch
        self._plan = plan
        self._batch: list[Planned] | None = None
        self._error: Exception | None = None

    def read(self) -> None:
        """Read the next batch, if it has not been read. An error is kept for who takes the batch."""
        if self._batch is not None or self._error is not None:
            return
        batch: list[Planned] = []
        try:
            for item in islice(self._source, self._n_per_batch):
                batch.append((item, self._plan(item)))
                time.sleep(_PAUSE_S)
        except Exception as error:
            self._error = error
        else:
            self._batch = batch

    def take(self) -> list[Planned]:
        """The next batch, empty at the end; raises what the source raised."""
        self.read()
        if self._error is not None:
            raise self._error
        batch, self._batch = self._batch or [], None
        return batch
