"""Quantities of single examples, held against a loop over the examples."""

import re

import pytest
import torch
from helpers import CASES, first_run
from helpers.cases.case import cast, random_like
from helpers.one_by_one import (
    check,
    check_noise,
    example,
    one_by_one,
    run_alone,
)
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import keys, per_example
from lincoln_fn.fastpath.table import fast_by_example

# Why some cases of the table have no gradients of single examples: a layer mixes them, there is no
# batch or it is on axis 1, inputs have several lengths, or the loss has added up the examples.
REFUSED = (
    "over the batch|expected a batch|use (batch_first=True|dim=1)|"
    "examples on axis 0, as the network|loss has added up"
)
TRAINED = [case for case in CASES if lf.tree.leaves(case.params())]
BATCHES = [case for case in TRAINED if not str(case).startswith("parallel(dense")]  # of two sizes


def refusal(*given):
    """Return the message with which a network is refused; None if it is not."""
    try:
        per_example.squared_norms(*given)
    except lf.LayerError as error:
        return str(error)
    return None


@pytest.mark.parametrize("make", [lambda layer: layer, fast_by_example], ids=["formula", "fast"])
@pytest.mark.parametrize("case", BATCHES, ids=str)
def test_every_layer_of_the_table(case, make):
    net, params, x = make(case.layer), cast(case.params()), cast(case.x)
    y, cache = net.forward(params, x)
    g = random_like(y)
    refused = refusal(net, params, cache, g)
    if refused:
        assert re.search(REFUSED, refused)
        named = re.escape(refused.partition("got")[0])
        with pytest.raises(lf.LayerError, match=f"{named}|at least two examples"):
            check_noise(net, params, cache, g, None)
    else:
        check(net, params, cache, g, one_by_one(net, params, cache, g))


def test_only_batch_norm_is_refused_in_every_case():
    kinds = {case.layer.name.partition("(")[0] for case in TRAINED}
    accepted = set()
    for case in TRAINED:
        kind = case.layer.name.partition("(")[0]
        if kind in accepted:
            continue
        params = cast(case.params())
        y, cache = case.layer.forward(params, cast(case.x))
        if not refusal(case.layer, params, cache, random_like(y)):
            accepted.add(kind)
    # The case of `shared` has inputs of several lengths; another test has one length.
    assert kinds - accepted == {"batch_norm", "linear_head", "shared", "graph"}
    assert len(accepted) > 25


X = keys.normal(lf.Key(1), (5, 3))
TOKENS = torch.tensor([[4, 2, 0, 1, 2], [3, 1, 5, 2, 2], [1, 1, 0, 0, 4]])
ROWS = keys.normal(lf.Key(2), (3, 4, 6))


def tied(width=7):
    return lf.tied(lf.embedding(6, 2), lf.serial(lf.dense(width), lf.tanh(), lf.dense(2)))


# Those of one part alone are in the table of layers.
COMPOSITIONS = {
    "shared": (lf.shared(lf.serial(lf.dense(4), lf.tanh(), lf.dense(3))), (X, 2 * X.flip(0))),
    "shared sequences": (lf.shared(lf.lstm(2)), (ROWS, ROWS[:, :2] + 1)),
    "shared norms": (lf.shared(lf.layer_norm()), (X, X * X)),
    "shared attention": (lf.shared(lf.multi_head_attention(2)), (ROWS, ROWS + ROWS.flip(1))),
    "shared convolutions": (lf.shared(lf.conv1d(4, 3)), (ROWS, keys.normal(lf.Key(3), (3, 4, 9)))),
    "shared in a row": (lf.serial(lf.shared(lf.dense(3)), lf.shared(lf.checkpointed(lf.dense(2)))),
        (X, X.tanh())),
    "tied": (tied(), TOKENS),
    "scan of tokens": (lf.scan(lf.serial(lf.parallel(lf.embedding(6, 4), lf.identity()),
        lf.gru_cell(4))), (TOKENS, ROWS[:, :, 0])),
    "all at once": (lf.serial(lf.embedding(6, 4),
        lf.checkpointed(lf.residual(lf.serial(lf.gru(4), lf.frozen(lf.dense(4))))),
        lf.transformer_encoder_block(2, dim_feedforward=5, dropout=0.0),
        lf.inference(lf.batch_norm()), lf.prelu(), lf.flatten(), lf.dense(3)), TOKENS),
}  # fmt: skip


@pytest.mark.parametrize("make", [lambda layer: layer, lf.fast], ids=["formula", "fast"])
@pytest.mark.parametrize(("net", "x"), COMPOSITIONS.values(), ids=COMPOSITIONS)
def test_compositions(net, x, make):
    net = make(net)
    params, cache, g = example(net, x)
    check(net, params, cache, g, run_alone(net, params, cast(x), g))


CENTRED = lf.branch(
    lf.identity(), lf.serial(lf.mean(0, keepdim=True), lf.broadcast_to(4, -1)), merge=lf.subtract()
)


def test_a_head_whose_loss_has_added_up_the_examples_is_refused():
    net, x = lf.serial(lf.dense(4), lf.linear_head(1)), keys.normal(lf.Key(0), (5, 3))
    params, y, cache = first_run(net, x, 1)
    g = lf.tree.map(torch.ones_like, y)
    with pytest.raises(lf.LayerError, match=r"serial\[1\] linear_head\(1\): .* loss has added up"):
        per_example.gradients(net, params, cache, g)


def square(layer):
    """Give the gradients of four examples through a layer of four features."""
    x, net = keys.normal(lf.Key(0), (4, 3)), lf.serial(lf.dense(4), layer, lf.dense(4))
    params, y, cache = first_run(net, x, 1)
    return per_example.gradients(net, params, cache, torch.ones_like(y))


test_a_layer_that_mixes_or_moves_the_examples_of_a_square_batch_is_refused = refusals("""
square(softmax(dim=0)) -> serial[1] softmax(dim=0): ... got one along their axis
square(log_softmax(dim=-2)) -> got one along their axis; use another dim
square(softmin(dim=0)) -> got one along their axis
square(flip(-2)) -> serial[1] flip(-2): ... got one along their axis
square(CENTRED) -> serial[1] branch[1] ... mean(dim=0, keepdim=True): ... along their axis
square(graph(lambda v: v - v.mean(0))) -> got an expression, which may work over the batch
square(permute(1, 0)) -> serial[1] permute(1, 0): ... got a layer that moves them
""")
