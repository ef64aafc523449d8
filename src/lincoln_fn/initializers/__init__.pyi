from lincoln_fn.initializers.initializer import (
    Fans as Fans, Initializer as Initializer, constant as constant, normal as normal, ones as ones,
    truncated_normal as truncated_normal, uniform as uniform, zeros as zeros,
)
from lincoln_fn.initializers.scaled import (
    fan_in_uniform as fan_in_uniform, gain as gain, glorot_normal as glorot_normal,
    glorot_uniform as glorot_uniform, he_normal as he_normal, he_uniform as he_uniform,
    lecun_normal as lecun_normal, lecun_uniform as lecun_uniform,
)
from lincoln_fn.initializers.initializer import (
    dirac as dirac, identity as identity, orthogonal as orthogonal, sparse as sparse,
)
