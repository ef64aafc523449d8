"""A network divided into stages, which processes compute at the same time on other microbatches."""
