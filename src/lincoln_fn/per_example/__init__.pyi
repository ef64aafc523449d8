from lincoln_fn.per_example.quantities import *
from lincoln_fn.per_example.noise_scale import (
    NoiseRecord as NoiseRecord, NoiseScales as NoiseScales, NoiseState as NoiseState,
    noise_scale as noise_scale, with_noise as with_noise,
)
