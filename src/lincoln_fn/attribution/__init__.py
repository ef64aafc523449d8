"""Attribution: how much each element of an input, or of any layer's output, accounts for an output.

Each method is a pure function of a network, its params, an input and the output to explain:

    attribution = lf.attribution.gradient_times_input(net, params, x, target)
    relevance = lf.attribution.lrp(net, params, x, target, rules=lf.attribution.epsilon_plus())
"""

from lincoln_fn.faces import face

face(__name__)
