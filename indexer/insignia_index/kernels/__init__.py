"""Pure functions over arrays, compiled by numba; the only package that knows numba and LLVM."""

from insignia_index.kernels.cache import find_place

find_place()
