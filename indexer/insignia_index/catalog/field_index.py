"""A category field over all studies: one dictionary, and where each study keeps its codes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from insignia_index.kernels.gather import gather_codes
from insignia_model.table import Column


class FieldIndex:
    """Made from the column of every study, None where a study lacks the field."""

    def __init__(self, columns: list[Column | None]) -> None:
        self._columns = columns  # keeps what the addresses point to
        self._addresses = np.zeros(len(columns), np.int64)
        self._itemsizes = np.ones(len(columns), np.int64)
        names: dict[str, int] = {}
        maps: list[int] = []
        map_starts = []
        for study, column in enumerate(columns):
            map_starts.append(len(maps))
            if column is not None:
                self._addresses[study] = column.values.ctypes.data
                self._itemsizes[study] = column.values.itemsize
                maps += [names.setdefault(name, len(names)) for name in column.dictionary]
        self._map_starts = np.array(map_starts, np.int64)
        self._maps = np.array(maps, np.int32)
        self.names = tuple(names)

    def take(self, study: npt.NDArray[np.int64], row: npt.NDArray[np.int64]) -> Column:
        """Column of the cells (study[i], row[i])."""
        codes = gather_codes(self._addresses, self._itemsizes, self._map_starts, self._maps, study, row)
        return Column("category", codes, self.names).compact()
