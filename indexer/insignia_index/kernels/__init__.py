"""Pure functions over arrays, compiled by numba; the only package that knows numba and LLVM."""
