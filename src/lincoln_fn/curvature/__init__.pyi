from lincoln_fn.curvature.diagonal import ggn_diagonal as ggn_diagonal
from lincoln_fn.curvature.influence import (
    gauss_newton_vector_product as gauss_newton_vector_product,
    hessian_vector_product as hessian_vector_product, influence as influence,
)
from lincoln_fn.curvature.kfac import (
    Factors as Factors, kfac as kfac, kfac_factors as kfac_factors,
)
from lincoln_fn.curvature.laplace import (
    Posterior as Posterior, Predictive as Predictive, laplace as laplace,
    laplace_predictive as laplace_predictive, laplace_probabilities as laplace_probabilities,
    log_marginal_likelihood as log_marginal_likelihood,
)
