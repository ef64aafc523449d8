"""Updates of the state by a matrix product."""
