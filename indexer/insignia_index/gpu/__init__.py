"""The sparse engine on a GPU: postings in device memory, the same answers as the processor's kernels.

Nothing here is imported unless a device is asked for; only `gpu.cuda` imports CuPy.
"""
