"""C++ kernels of a compiled step; the pass that calls one has its operation."""
