"""Exact numbers: the library's own code, and yours, run on elements of a finite field."""
