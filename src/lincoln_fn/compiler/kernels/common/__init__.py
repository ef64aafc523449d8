"""What the C++ kernels share."""
