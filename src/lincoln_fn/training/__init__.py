"""Training: the data, the step, and the loop."""
