"""A pipeline refuses what can never work, and its errors name the stage."""

import torch
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.distributed import alone, one_f_one_b, pipeline

PAIR, ORDER = (lf.dense(3), lf.dense(2)), one_f_one_b(2, 2)
NORMED = lf.dense(1), lf.distributed.sync_batch_norm(alone())
X, SGD, MSE = torch.ones(2, 3), lf.optim.sgd(0.1), lf.losses.mse()
CLIPPED = lf.optim.chain(lf.optim.clip_by_global_norm(1.0), SGD)


def tied(*paths):
    return pipeline(PAIR, ORDER, alone(), tied=(paths,)).net.init(lf.Key(0), X)


def take(loss=MSE, optimizer=SGD, x=X, target=X[:, :2], factor=1.0):
    """Take a step by a pipeline whose parameters are multiplied."""
    net, reduce = pipeline(PAIR, ORDER, alone())
    step = lf.make_step(net, loss, optimizer, reduce=reduce)
    state = lf.init_state(net, optimizer, lf.Key(0), X)
    params = lf.tree.map(lambda leaf: leaf * factor, state.params)
    return step(lf.evolve(state, params=params), (x, target))


test_wrong_arguments_and_steps_are_refused_and_the_stage_is_named = refusals(
    """
pipeline(PAIR, ORDER, 2) -> expected group to be a Group, got 2
pipeline(dense(3), ORDER, alone()) -> expected stages to be a tuple of layers, got the Layer
    dense(3)
pipeline((dense(3), dense), ORDER, alone()) -> pipeline[1]: expected a Layer, got the constructor
pipeline(NORMED, ORDER, alone()) -> use batch_norm
pipeline(PAIR, ORDER, alone(), max_norm=0.0) -> expected max_norm above 0, got 0.0
pipeline(PAIR, one_f_one_b(3, 2), alone()) -> expected 2 stages, got 3
pipeline(PAIR, ORDER, alone(), limit=1) -> expected at most 1 cache in stage 0, got 2
tied('0', '2') -> expected tied paths such as ("0.0", "1.2"), got
tied('1', '0') -> in the order of their stages
tied('0', '1') -> expected tied parameters of the same shapes
tied('0.bias', '1.weigth') -> path of a tied parameter, got '1.weigth'
take(optimizer=CLIPPED) -> give max_norm to pipeline
take(losses.softmax_cross_entropy(), target=torch.full((2,), -100)) -> expected labels to average
    over, got only ignored ones
take(x=torch.ones(2, 4)) -> pipeline[0] dense(3): expected x of shape (..., 3
take(factor=torch.inf) -> NonFiniteError: pipeline[0] dense(3): the output is not finite
""",
    globals() | {"NonFiniteError": lf.NonFiniteError},
)
