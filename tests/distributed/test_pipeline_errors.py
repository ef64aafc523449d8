"""A pipeline refuses what can never work, and its errors name the stage."""

import pytest
import torch
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.distributed import alone, one_f_one_b, pipeline

PAIR, ORDER = (lf.dense(3), lf.dense(2)), one_f_one_b(2, 2)
NORMED = lf.dense(1), lf.distributed.sync_batch_norm(alone())
X = torch.ones(2, 3)


def tied(*paths):
    return pipeline(PAIR, ORDER, alone(), tied=(paths,)).net.init(lf.Key(0), X)


test_wrong_arguments_are_refused = refusals(
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
""",
    globals(),
)


def test_clipping_by_the_norm_of_one_stage_is_refused():
    net, reduce = pipeline((lf.dense(3), lf.dense(2)), one_f_one_b(2, 2), alone())
    optimizer = lf.optim.chain(lf.optim.clip_by_global_norm(1.0), lf.optim.sgd(0.1))
    with pytest.raises(ValueError, match="give max_norm to pipeline"):
        lf.make_step(net, lf.losses.mse(), optimizer, reduce=reduce)


def test_a_batch_without_labels_to_average_over_is_refused():
    net, reduce = pipeline((lf.dense(3), lf.dense(2)), one_f_one_b(2, 2), alone())
    optimizer, loss, x = lf.optim.sgd(0.1), lf.losses.softmax_cross_entropy(), torch.ones(4, 5)
    step = lf.make_step(net, loss, optimizer, reduce=reduce)
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    with pytest.raises(ValueError, match="expected labels to average over, got only ignored ones"):
        step(state, (x, torch.full((4,), -100)))


def test_errors_name_the_stage():
    net, reduce = pipeline((lf.dense(3), lf.serial(lf.dense(2))), one_f_one_b(2, 2), alone())
    optimizer = lf.optim.sgd(0.1)
    step = lf.make_step(net, lf.losses.mse(), optimizer, reduce=reduce)
    state = lf.init_state(net, optimizer, lf.Key(0), torch.ones(4, 5))
    with pytest.raises(ValueError, match=r"pipeline\[0\] dense\(3\): expected x of shape \(..., 5"):
        step(state, (torch.ones(4, 6), torch.ones(4, 2)))
    bad = lf.tree.map(lambda leaf: leaf * torch.inf, state.params)
    with pytest.raises(ValueError, match=r"pipeline\[0\] dense\(3\): the output is not finite"):
        step(lf.evolve(state, params=bad), (torch.ones(4, 5), torch.ones(4, 2)))
