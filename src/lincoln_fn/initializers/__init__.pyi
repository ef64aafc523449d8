from lincoln_fn.initializers.initializer import *
from lincoln_fn.initializers.scaled import (
    fan_in_uniform as fan_in_uniform, gain as gain, glorot_normal as glorot_normal,
    glorot_uniform as glorot_uniform, he_normal as he_normal, he_uniform as he_uniform,
    lecun_normal as lecun_normal, lecun_uniform as lecun_uniform,
)
