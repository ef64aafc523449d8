"""Second derivatives of a loss, through the hand-written backward.

    hessian_vector_product         H v
    gauss_newton_vector_product    G v    with G = J^T H_L J
    ggn_diagonal                   the diagonal of G
    kfac_factors                   A and B with A ox B about G, layer by layer
    kfac                           a gradient, for `make_step(..., gradient=...)`
    laplace                        a normal posterior of the parameters
    laplace_predictive             the distribution of its outputs
    laplace_probabilities          of classes
    log_marginal_likelihood        the evidence of a model
    influence                      of training examples on the loss of a test example

J is the derivative of the prediction in the parameters, and H_L the Hessian of the loss in the
prediction.
"""

from lincoln_fn.faces import face

face(__name__)
