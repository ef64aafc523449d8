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

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.rules.alignment import alignment as alignment
from lincoln_fn.rules.backpropagation import backpropagation as backpropagation
from lincoln_fn.rules.direct_feedback_alignment import (
    direct_feedback_alignment as direct_feedback_alignment,
)
from lincoln_fn.rules.feedback_alignment import feedback_alignment as feedback_alignment
from lincoln_fn.rules.forward_forward import forward_forward as forward_forward
from lincoln_fn.rules.forward_forward_data import true_and_false_labels as true_and_false_labels
from lincoln_fn.rules.forward_forward_data import with_label as with_label
from lincoln_fn.rules.forward_forward_loss import forward_forward_loss as forward_forward_loss
from lincoln_fn.rules.kolen_pollack import kolen_pollack as kolen_pollack
from lincoln_fn.rules.local_loss import local_loss as local_loss
from lincoln_fn.rules.local_losses import local_losses as local_losses
from lincoln_fn.rules.matrices import has_matrices as has_matrices
from lincoln_fn.rules.pepita import pepita as pepita
from lincoln_fn.rules.sign_symmetric import sign_symmetric as sign_symmetric
from lincoln_fn.rules.similarity_matching import similarity_matching as similarity_matching
from lincoln_fn.rules.straight_through import straight_through as straight_through

_export_all(globals())
