"""Other backward passes, each a function from a network to a network.

    net  = lf.rules.feedback_alignment(lf.serial(lf.dense(500), lf.relu(), lf.dense(10)))
    step = lf.make_step(net, loss, optimizer)

The network computes the same y. Only what it does with g is another:

    feedback_alignment           g goes back through fixed random matrices
    sign_symmetric               through matrices with the signs of the weights
    kolen_pollack                through matrices that learn like the weights
    direct_feedback_alignment    each block gets the error of the output by a matrix of its own
    local_losses                 each block learns by a loss of its own
    forward_forward              each block learns to tell true labels from false ones
    pepita                       a second forward pass takes the place of backward
    straight_through             g passes a layer unchanged

`backpropagation` takes the rules out again, and `alignment` measures the angle between both
gradients.
"""

from lincoln_fn.rules.alignment import alignment
from lincoln_fn.rules.backpropagation import backpropagation
from lincoln_fn.rules.direct_feedback_alignment import direct_feedback_alignment
from lincoln_fn.rules.feedback_alignment import feedback_alignment
from lincoln_fn.rules.forward_forward import forward_forward
from lincoln_fn.rules.forward_forward_data import true_and_false_labels, with_label
from lincoln_fn.rules.forward_forward_loss import forward_forward_loss
from lincoln_fn.rules.kolen_pollack import kolen_pollack
from lincoln_fn.rules.local_loss import local_loss
from lincoln_fn.rules.local_losses import local_losses
from lincoln_fn.rules.matrices import has_matrices
from lincoln_fn.rules.pepita import pepita
from lincoln_fn.rules.sign_symmetric import sign_symmetric
from lincoln_fn.rules.similarity_matching import similarity_matching
from lincoln_fn.rules.straight_through import straight_through

__all__ = [
    "alignment",
    "backpropagation",
    "direct_feedback_alignment",
    "feedback_alignment",
    "forward_forward",
    "forward_forward_loss",
    "has_matrices",
    "kolen_pollack",
    "local_loss",
    "local_losses",
    "pepita",
    "sign_symmetric",
    "similarity_matching",
    "straight_through",
    "true_and_false_labels",
    "with_label",
]
