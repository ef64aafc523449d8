"""Schedules of a pipeline: the caches that stages keep; what can never work is refused."""

import pytest
import torch
from helpers import MSE, SGD, begin
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.distributed import alone, check_schedule, gpipe, one_f_one_b, pipeline
from lincoln_fn.distributed import zero_bubble_h1 as h1
from lincoln_fn.distributed import zero_bubble_h2 as h2


@pytest.mark.parametrize(
    ("p", "m"), [(2, 3), (3, 5), (4, 7), (4, 12), (8, 32), (1, 1), (1, 4), (4, 1), (4, 3), (5, 2)]
)
def test_stages_keep_as_many_caches_as_the_schedules_say(p, m):
    assert check_schedule(gpipe(p, m)) == (m,) * p
    assert check_schedule(one_f_one_b(p, m)) == tuple(min(p - s, m) for s in range(p))
    assert check_schedule(h1(p, m)) == (min(p, m),) * p
    assert check_schedule(h2(p, m)) == (min(2 * p - 1, m),) * p


def test_a_schedule_of_ones_own_is_a_tuple():
    own = (
        (("F", 0), ("F", 1), ("B", 1), ("B", 0), ("W", 0), ("W", 1)),
        (("F", 1), ("F", 0), ("B", 1), ("B", 0), ("W", 1), ("W", 0)),
    )
    assert check_schedule(own, stages=2, microbatches=2, limit=2) == (2, 2)


F0, F1, B0, B1, W0, W1 = (("F", 0), ("F", 1), ("B", 0), ("B", 1), ("W", 0), ("W", 1))
GOOD = F0, F1, B0, W0, B1, W1
test_a_schedule_that_cannot_run_is_refused = refusals("""
check_schedule([GOOD]) -> expected a tuple for each stage, got list
check_schedule(()) -> expected a tuple for each stage, got ()
check_schedule((GOOD, 7)) -> expected a tuple for stage 1, got 7
check_schedule((GOOD,), stages=2) -> expected 2 stages, got 1; make it for 2 stages
check_schedule(((F0, ('X', 0)),)) -> an action such as ("F", 0) at position 1 of stage 0, got
check_schedule(((F0, ('B', -1)),)) -> an action such as ("F", 0) at position 1 of stage 0, got
check_schedule(((F0, B0),)) -> expected F0, B0, W0 in stage 0, each once and in this order, got F0
check_schedule((GOOD, GOOD[:5])) -> in stage 1, each once and in this order, got F1 at position 1,
check_schedule((GOOD, (F0, B0, W0))) -> F1, B1, W1 in stage 1, each once and in this order, got none
check_schedule(((F0, F0),)) -> in this order, got F0 at position 0, F0 at position 1
check_schedule(((B0, F0, W0),)) -> got B0 at position 0, F0 at position 1, W0 at position 2
check_schedule(((F0, W0, B0),)) -> got F0 at position 0, W0 at position 1, B0 at position 2
check_schedule((GOOD,), microbatches=1) -> microbatches from 0 to 0, got F1 at position 1
check_schedule((GOOD,), limit=1) -> at most 1 cache in stage 0, got 2; put W earlier
check_schedule(((F0, B0, W0, F1, B1, W1), GOOD)) -> B0 of stage 0 (position 1) waits for B0 of stage
    1 (position 2); F1 of stage 1 (position 1) waits for F1 of stage 0 (position 3); move one of
    them
""")


# A pipeline, whose errors name the stage


PAIR, ORDER = (lf.dense(3), lf.dense(2)), one_f_one_b(2, 2)
NORMED = lf.dense(1), lf.distributed.sync_batch_norm(alone())
X = torch.ones(2, 3)
CLIPPED = lf.optim.chain(lf.optim.clip_by_global_norm(1.0), SGD)


def tied(*paths):
    return pipeline(PAIR, ORDER, alone(), tied=(paths,)).net.init(lf.Key(0), X)


def take(loss=MSE, optimizer=SGD, x=X, target=X[:, :2], factor=1.0):
    """Take a step by a pipeline whose parameters are multiplied."""
    net, reduce = pipeline(PAIR, ORDER, alone())
    step, state = begin(net, X, loss, optimizer, reduce=reduce)
    params = lf.tree.map(lambda leaf: leaf * factor, state.params)
    return step(lf.evolve(state, params=params), (x, target))


test_wrong_arguments_and_steps_are_refused_and_the_stage_is_named = refusals("""
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
""")
