"""The examples of a batch divided among processes, and parameters, states and checkpoints too."""
