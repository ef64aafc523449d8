"""The examples of a batch divided among processes, which add up their gradients."""
