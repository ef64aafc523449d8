"""A program as one flat graph of tensor operations."""
