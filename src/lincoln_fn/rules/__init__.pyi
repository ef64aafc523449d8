from lincoln_fn.rules.backpropagation import (
    alignment as alignment, backpropagation as backpropagation,
)
from lincoln_fn.rules.direct_feedback_alignment import (
    direct_feedback_alignment as direct_feedback_alignment,
)
from lincoln_fn.rules.feedback import straight_through as straight_through
from lincoln_fn.rules.feedback_alignment import (
    feedback_alignment as feedback_alignment, kolen_pollack as kolen_pollack,
    sign_symmetric as sign_symmetric,
)
from lincoln_fn.rules.forward_forward import (
    forward_forward as forward_forward, forward_forward_loss as forward_forward_loss,
    true_and_false_labels as true_and_false_labels, with_label as with_label,
)
from lincoln_fn.rules.local_loss import (
    local_loss as local_loss, similarity_matching as similarity_matching,
)
from lincoln_fn.rules.local_losses import local_losses as local_losses
from lincoln_fn.rules.matrices import has_matrices as has_matrices
from lincoln_fn.rules.pepita import pepita as pepita
from lincoln_fn.rules.relp import relp as relp
