"""Training on many processes, over torch.distributed: arguments and values, no hidden group."""

from lincoln_fn.faces import face

face(__name__)
