"""Pure functions over arrays, compiled by numba; the only package that knows numba and LLVM."""

from insignia_index.kernels.cache import find_place, tell_of_compiling

find_place()
tell_of_compiling()
