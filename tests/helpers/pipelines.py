"""Networks in stages, their batches, and how they are trained, for the tests of pipelines."""

import torch

import lincoln_fn as lf
from lincoln_fn.distributed import pipeline, scores

SCHEDULES = {
    "gpipe": lf.distributed.gpipe, "1f1b": lf.distributed.one_f_one_b,
    "h1": lf.distributed.zero_bubble_h1, "h2": lf.distributed.zero_bubble_h2,
}  # fmt: skip


def double():
    """Make a layer of the user's own, without records."""
    return lf.Layer("double()", lambda params, x: (2 * x, None), lambda params, c, g: (2 * g, ()))


def twice():
    """Make a layer of the user's own whose output is a tuple, one of them with other strides."""
    return lf.Layer(
        "twice()",
        lambda params, x: ((x, x.mT.contiguous().mT), None),
        lambda params, cache, g: (g[0] + g[1], ()),
    )


def straight():
    """Make a layer that copies tensors to the strides of a message, which products depend on."""

    def forward(params, x):
        return lf.tree.map(lambda leaf: leaf.contiguous(), x), None

    return lf.Layer("straight()", forward, lambda params, cache, g: (g, ()))


def mixed(*inside):
    """Make four stages of many kinds: shared, checkpointed, with states, of the user's own."""
    block = lf.serial(lf.layer_norm(), lf.dense(7), *inside, lf.tanh())
    return (
        lf.serial(lf.dense(5), lf.dropout(0.3), lf.relu()),
        lf.serial(lf.dense(7), double(), twice()),
        lf.serial(
            straight(), lf.shared(lf.dense(7)), lf.add(), lf.residual(lf.checkpointed(block))
        ),
        lf.serial(lf.batch_norm(), lf.dense(3)),
    )


def mixed_batch(rows):
    x = lf.keys.normal(lf.Key(rows), (rows, 4))
    target = (lf.keys.uniform(lf.Key(rows + 1), (rows,)) * 3).long()
    target[0] = -100  # an example that does not count
    return x, target


def two_losses():
    """Make a loss of two parts, for the tuple that the first two mixed stages return."""
    return lf.losses.weighted({"a": (1.0, lf.losses.mse()), "b": (0.5, lf.losses.huber())})


def two_targets(rows):
    return mixed_batch(rows)[0], (torch.ones(rows, 7), torch.zeros(rows, 7))


WORDS, WIDTH, LENGTH = 11, 6, 5
TIED = (("0.0", "3.1"),)


def writer(dtype=torch.float32):
    """Make the four stages of a small transformer, whose scores are those of its embedding."""
    think = lf.serial(lf.layer_norm(), lf.dense(8), lf.gelu(), lf.dense(WIDTH))
    attend = lf.serial(lf.layer_norm(), lf.multi_head_attention(2, is_causal=True))
    return (
        lf.serial(lf.embedding(WORDS, WIDTH, dtype=dtype), lf.positional_embedding(LENGTH)),
        lf.residual(attend),
        lf.checkpointed(lf.residual(think)),
        lf.serial(lf.layer_norm(), scores(WORDS), lf.permute(0, 2, 1)),
    )


def writer_batch(rows):
    codes = (lf.keys.uniform(lf.Key(rows), (rows, LENGTH + 1)) * WORDS).long()
    return codes[:, :-1], codes[:, 1:]


def bits(tree):
    return [leaf.numpy().copy() for leaf in lf.tree.leaves(tree, states=True)]


def trained(net, reduce, batches, optimizer=None, loss=None):
    """Return the losses of some steps, and the state behind them."""
    optimizer = lf.optim.adamw(0.01) if optimizer is None else optimizer
    loss = lf.losses.softmax_cross_entropy() if loss is None else loss
    step = lf.make_step(net, loss, optimizer, reduce=reduce)
    state = lf.init_state(net, optimizer, lf.Key(0), batches[0][0])
    losses = []
    for state, record in lf.train(step, state, batches):
        losses.append(record.loss)
    return losses, state


def run_of(stages, batches, schedule, group, loss=None, optimizer=None, **options):
    """Train stages, and return the losses and this process's params, stage by stage."""
    net, reduce = pipeline(stages, schedule, group, **options)
    losses, state = trained(net, reduce, batches, optimizer, loss)
    return losses, [bits(entry) for entry in state.params]
