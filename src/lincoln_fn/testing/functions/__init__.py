"""Checks of functions with a backward of their own: of torch, of numpy, of jax."""
