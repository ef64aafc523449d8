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

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.curvature.diagonal import ggn_diagonal as ggn_diagonal
from lincoln_fn.curvature.influence import influence as influence
from lincoln_fn.curvature.kfac import kfac as kfac
from lincoln_fn.curvature.kfac_factors import Factors as Factors
from lincoln_fn.curvature.kfac_factors import kfac_factors as kfac_factors
from lincoln_fn.curvature.laplace import Posterior as Posterior
from lincoln_fn.curvature.laplace import laplace as laplace
from lincoln_fn.curvature.laplace import log_marginal_likelihood as log_marginal_likelihood
from lincoln_fn.curvature.laplace_predictive import Predictive as Predictive
from lincoln_fn.curvature.laplace_predictive import laplace_predictive as laplace_predictive
from lincoln_fn.curvature.laplace_predictive import laplace_probabilities as laplace_probabilities
from lincoln_fn.curvature.products import gauss_newton_vector_product as gauss_newton_vector_product
from lincoln_fn.curvature.products import hessian_vector_product as hessian_vector_product

_export_all(globals())
