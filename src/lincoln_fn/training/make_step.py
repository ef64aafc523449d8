"""Make a training step: what is chosen once, before the first batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from lincoln_fn.core import Layer, Params, called, checked, unexpected
from lincoln_fn.losses import Loss
from lincoln_fn.losses import internal as losses
from lincoln_fn.optim import Optimizer
from lincoln_fn.optim.internal import split_clip
from lincoln_fn.training import gears
from lincoln_fn.training.bare_step import BareStep, donating_step
from lincoln_fn.training.data import Batch
from lincoln_fn.training.protocols import Gradient, Reduce
from lincoln_fn.training.step import Step
from lincoln_fn.training.step_errors import check_prediction, warn_of_second_softmax
from lincoln_fn.training.train import StepFunction
from lincoln_fn.training.update_in_walk import update_in_walk, with_later


@checked
def make_step(
    net: Layer,
    loss: Loss,
    optimizer: Optimizer,
    *,
    donate: bool = False,
    fast: bool = True,
    debug: bool = False,
    gradient: Gradient | None = None,
    reduce: Reduce | None = None,
    record: bool = True,
    update: Literal["after", "walk"] = "after",
) -> Step:
    """Make the training step of a network: step(state, (x, target)) -> (state, value).

    Args:
        loss: the loss, with reduction mean or sum.
        donate: whether a step may update the state in place, which saves time and memory in large
            networks. The old tensors are empty afterwards, so using a state twice is an error: to
            keep a state, keep a copy. No tensor may occur twice in the state, and no other tree may
            share its memory.
        fast: whether to run `lf.fast(net)`, which computes the same in less time, and to check the
            prediction in the first step alone, such as whether it is of probabilities.
        debug: whether each step also looks for a function that changes in place what another one
            holds: params, a state, a batch, or a cache between forward and backward. That takes
            another forward and backward. A run's first step always looks at its state and batch.
        gradient: how to compute what the optimizer is given, such as `per_example.clipped(1.0)`;
            None for the gradient itself. One that keeps a state needs
            `init_state(..., gradient=gradient)`.
        reduce: how to compute the step together with other processes, such as
            `distributed.mean(group)`; None computes it alone.
        record: whether later steps run the operations of the first ones without Python's time, bit
            for bit the same (`lf.recorded` says how). With `reduce`, Python stays between
            what is recorded: the update, and the passes of `distributed.mean` where all gradients
            fit into one bucket.
        update: "after" the walk back, with all gradients at once; or in the "walk", where each
            layer's gradient is computed, used and freed, with the same bits. Then the optimizer has
            to update leaf by leaf. A `clip_by_global_norm` before it takes a walk of its own, whose
            norm is the same up to rounding. With `donate`, an error on the way back leaves a state
            of which a part is updated.

    Returns:
        The step: a pure function, unless `donate` lets it update the state. It raises `LayerError`
        for a batch that does not fit. At step 0 it also raises one if the loss takes probabilities,
        or their logarithms, and the net returns something else. For a loss that is `nan` or
        infinite it raises `NonFiniteError`, which names the step and the first layer whose output
        is not finite. In each case there is no new state, and the old one is unchanged. Autograd
        and torch.func differentiate the step, also a compiled one; not one with `donate` or
        `reduce`, which then raises a `LayerError`.

    Warns:
        UserWarning: if the network ends in `softmax()` or `sigmoid()`, and the loss is a
            cross-entropy on logits, which computes that itself.

    Raises:
        LayerError: if both gradient and reduce are given, or gradient expects another reduction
            than the loss has, or another kind of loss; or for update="walk" with one of them, or
            with an optimizer that needs all gradients at once.

    Example:
        >>> net, optimizer, x = lf.dense(1), lf.optim.sgd(0.1), torch.ones(4, 3)
        >>> step = make_step(net, lf.losses.sigmoid_cross_entropy(), optimizer)
        >>> state, value = step(lf.init_state(net, optimizer, lf.Key(0), x), (x, torch.ones(4)))
        >>> state.step
        tensor(1)
    """
    name = f"make_step({net}, {loss}, {optimizer})"
    if gradient is not None:
        _check_gradient(gradient, reduce, loss)
    max_norm, of_leaves = None, optimizer
    if update == "walk":
        given = gradient or reduce
        if given is not None:
            raise unexpected("make_step", 'update="walk" alone', given, "leave one of them out")
        max_norm, of_leaves = split_clip(optimizer)
    warn_of_second_softmax(net, loss)
    # A gradient of another kind may read what each example is to each part.
    layer, its_loss = net, loss
    if fast:
        layer = gears.faster(net, by_example=gradient is not None)
        its_loss = losses.unchecked(loss)
    reduced, exact = None, False
    if reduce is not None:
        bind = (reduce.bind_recorded if record else None) or reduce.bind
        reduced, exact = bind(layer, its_loss, name), reduce.exact
    parts = tuple(losses.parts_of(loss))

    def bare(*, donate: bool) -> BareStep:
        its = gears.faster_optimizer(of_leaves, donate=donate, exact=exact) if fast else of_leaves
        # With other processes, the update alone is recorded, and `reduce` records what it can.
        is_recorded = record and reduce is not None and not donate
        whole, update_of = layer, gears.recorded(its.update) if is_recorded else its.update
        if update == "walk":
            update_of = partial(update_in_walk, layer, its.update, max_norm)
            whole = with_later(layer)
        return BareStep(whole, its_loss, update_of, gradient, reduced, bool(parts), donate)

    pure = bare(donate=False)
    run: StepFunction = bare(donate=True) if donate else pure
    if record and reduce is None:
        run = gears.recorded_step(run, name, donate)
    if donate:
        run = partial(donating_step, run)
    check = _check_of_first(layer, loss, gradient)
    return Step(
        net, loss, optimizer, donate, pure, run, check, parts, gradient, reduce, fast, debug
    )


def _check_of_first(
    layer: Layer, loss: Loss, gradient: Gradient | None
) -> Callable[[Params, Batch], None] | None:
    """Return what checks, at step 0, that the loss accepts a prediction; None for most losses."""
    check, tried = losses.first_check(loss), None
    if gradient is not None and gradient.by_example and loss.mixes_examples is None:
        tried = partial(losses.check_each_alone, f"make_step: {gradient}", loss)
    return partial(check_prediction, layer, check, tried) if check or tried else None


def _check_gradient(gradient: Gradient, reduce: Reduce | None, loss: Loss) -> None:
    """Refuse a gradient beside reduce, and one for another reduction or another kind of loss."""
    where = f"make_step: {gradient}"
    if reduce is not None:
        raise unexpected("make_step", "gradient or reduce", "both", "leave one of them out")
    formula = losses.formula_of(loss)
    has = None if formula is None else "mean" if formula.is_mean else "sum"
    if has and gradient.reduction and gradient.reduction != has:
        name = called(gradient.name)
        expected = f"a loss with reduction={gradient.reduction!r}"
        raise unexpected(where, expected, loss, f"or write {name}(reduction={has!r})")
    if gradient.by_example and loss.mixes_examples:
        raise losses.mixing(where, loss)
