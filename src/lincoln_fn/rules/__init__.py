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
    relp                         relevance takes the place of the gradient

`backpropagation` takes the rules out again, and `alignment` measures the angle between both
gradients.
"""

from lincoln_fn.faces import face

face(__name__)
