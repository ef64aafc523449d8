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

from lincoln_fn.curvature.diagonal import ggn_diagonal
from lincoln_fn.curvature.influence import influence
from lincoln_fn.curvature.kfac import kfac
from lincoln_fn.curvature.kfac_factors import Factors, kfac_factors
from lincoln_fn.curvature.laplace import Posterior, laplace, log_marginal_likelihood
from lincoln_fn.curvature.laplace_predictive import (
    Predictive,
    laplace_predictive,
    laplace_probabilities,
)
from lincoln_fn.curvature.products import gauss_newton_vector_product, hessian_vector_product

__all__ = [
    "Factors",
    "Posterior",
    "Predictive",
    "gauss_newton_vector_product",
    "ggn_diagonal",
    "hessian_vector_product",
    "influence",
    "kfac",
    "kfac_factors",
    "laplace",
    "laplace_predictive",
    "laplace_probabilities",
    "log_marginal_likelihood",
]
