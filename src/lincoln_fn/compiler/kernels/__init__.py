"""C++ kernels of a compiled step, one folder a kernel: the operation in op.py, and its code."""
