"""Other backward passes: each is a function from a network to one of the same y, with another dx.

    net  = lf.rules.feedback_alignment(lf.serial(lf.dense(500), lf.relu(), lf.dense(10)))
    step = lf.make_step(net, loss, optimizer)

`backpropagation` takes the rules out again. `alignment` measures the angle between both gradients.
"""

from lincoln_fn.faces import face

face(__name__)
