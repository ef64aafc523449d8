"""Small matrix products."""
