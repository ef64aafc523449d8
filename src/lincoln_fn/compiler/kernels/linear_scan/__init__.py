"""The steps of a linear scan."""
