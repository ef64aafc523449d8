from lincoln_fn.curvature.diagonal import ggn_diagonal as ggn_diagonal
from lincoln_fn.curvature.influence import (
    gauss_newton_vector_product as gauss_newton_vector_product,
    hessian_vector_product as hessian_vector_product, influence as influence,
)
from lincoln_fn.curvature.kfac import kfac as kfac
from lincoln_fn.curvature.kfac_factors import Factors as Factors, kfac_factors as kfac_factors
from lincoln_fn.curvature.laplace import (
    Posterior as Posterior, laplace as laplace, log_marginal_likelihood as log_marginal_likelihood,
)
from lincoln_fn.curvature.laplace_predictive import (
    Predictive as Predictive, laplace_predictive as laplace_predictive,
    laplace_probabilities as laplace_probabilities,
)
