from lincoln_fn.per_example.quantities import (
    clipped as clipped, gradients as gradients, gram as gram, second_moment as second_moment,
    squared_norms as squared_norms, variance as variance, weighted_sum as weighted_sum,
)
from lincoln_fn.per_example.noise_scale import (
    NoiseRecord as NoiseRecord, NoiseScales as NoiseScales, NoiseState as NoiseState,
    noise_scale as noise_scale, with_noise as with_noise,
)
