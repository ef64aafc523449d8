"""Parameters and states divided among processes, and checkpoints of them."""
