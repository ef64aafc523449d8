"""Errors of a running step: the wrong kind of prediction, a number that is not finite."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine import in_dtype, is_serial
from lincoln_fn.core import Arrays, Cache, Layer, NonFiniteError, Params, describe, tree, versions
from lincoln_fn.losses.internal import Check, Loss, formula_of
from lincoln_fn.training.data import Batch
from lincoln_fn.walk.internal import check_in_place, check_unchanged, there

# The place of an error in the loss's value, behind those of all layers.
LAST: Final = 2**31

# By a loss on logits: the layer that it computes itself, and the loss on that layer's output.
_COMPUTES: Final = {
    "softmax_cross_entropy": ("softmax", "cross_entropy()"),
    "sigmoid_cross_entropy": ("sigmoid", "log_loss()"),
}


def warn_of_second_softmax(net: Layer, loss: Loss) -> None:
    """Warn if a network ends in the softmax or sigmoid that its loss on logits computes itself."""
    formula = formula_of(loss)
    if formula is None or formula.name not in _COMPUTES:
        return
    computed, other = _COMPUTES[formula.name]
    last = net
    while last.parts and (is_serial(last) or core.made_by(last, in_dtype)):
        last = last.parts[-1]
    if core.called(last.name) == computed:  # also a layer of your own by that name
        problem = f"{loss} computes the {computed} itself, and the network ends in {last}"
        mend = f"leave it out of the network, or take losses.{other}"
        core.warn(f"make_step: {problem}; {mend}")


def warn_of_graph(state: object, batch: Batch) -> None:
    """Warn if autograd, which x asks for, keeps the graph of the steps before, too."""
    of_state, given = core.tensors_in((state,)), core.tensors_in(batch)
    if any(map(core.is_wrapped, (*of_state, *given))):  # torch.func does not start by mistake
        return
    if any(t.grad_fn is not None for t in of_state) and any(t.requires_grad for t in given):
        problem = "step: x requires a gradient, so autograd keeps the graph of every step"
        mend = "detach x, unless you differentiate through the steps"
        core.warn(f"{problem}; {mend}")


def check_prediction(
    layer: Layer, check: Check | None, on_all: Check | None, params: Params, batch: Batch
) -> None:
    """Check that a loss takes a prediction: `check` its values, and `on_all` whatever it is."""
    x, target = batch
    try:
        prediction = layer.predict(params, x)
    except Exception:
        return  # The step itself says what is wrong.
    if check is not None and _is_readable(prediction, target):
        check(prediction, target)
    if on_all is not None:
        on_all(prediction, target)


def _is_readable(prediction: Arrays, target: Arrays) -> bool:
    """Return whether a prediction has floating values, and the target an entry for each."""
    try:
        same_form = not isinstance(prediction, tuple) or len(prediction) == len(target)
        predicted, labels = tree.leaves(prediction), tree.leaves(target)
        is_floating = all(leaf.is_floating_point() for leaf in predicted)
        has_values = bool(labels) and all(leaf.numel() for leaf in (*predicted, *labels))
    except Exception:  # likewise
        return False
    return same_form and is_floating and has_values


def check_layers(net: Layer, loss: Loss, params: Params, batch: Batch) -> None:
    """Run the user's own network and loss, so that an error names its position there."""
    x, target = batch

    def g_of(prediction: Arrays) -> Arrays:
        noted = versions(prediction=prediction, target=target)
        pair = loss.forward(prediction, target)
        core.check_pair(loss.name, "loss.forward", pair)
        check_unchanged(loss.name, "forward", noted)
        return loss.backward(pair[1])

    check_in_place(net, params, x, g_of, _check_mirrors)


def _check_mirrors(layer: Layer, params: Params, dparams: Params) -> None:
    pairs = zip(tree.leaves(dparams), tree.leaves(params), strict=False)
    is_like = all(isinstance(d, Tensor) and d.shape == p.shape for d, p in pairs)
    if not tree.same_structure(dparams, params) or not is_like:
        expected = f"dparams like params, {describe(params)}"
        raise core.unexpected(layer.name, expected, describe(dparams))


def non_finite(
    net: Layer, loss: Loss, params: Params, number: int, batch: Batch
) -> tuple[NonFiniteError, int]:
    """Make the error that names where a loss stopped being finite, and tell its place.

    It runs the network again, to its end: layers of other processes may wait for this one's. The
    place is the layer's in the walk, 0 for x, and above `LAST` if it is not in these examples.
    """
    x, target = batch
    where = f"step {number}"
    found: list[tuple[NonFiniteError, int]] = []
    if not _all_finite(x):
        found.append((NonFiniteError(where, "x holds values that are not finite"), 0))
    count = 0

    def visit(layer: Layer, path: str, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        nonlocal count
        count += 1
        y, cache = layer.forward(params, x)
        if not found and not _all_finite(y):
            bad = [path for path, leaf in core.named_leaves(params) if not _all_finite(leaf)]
            of = f"; nor is its {' or '.join(bad)}" if bad else ", though its x and params are"
            at = f"{where}: {_position(net, path)}"
            found.append((NonFiniteError(at, f"the output is not finite{of}"), count))
        return y, cache

    problem, place = "the value is not finite, though the prediction is", LAST + 1
    try:
        prediction, _ = there(visit, net, params, x)
        problem += _describe_size(prediction)
        if not _all_finite(loss.forward(prediction, target)[0]):
            place = LAST
    except Exception:  # of a layer after the one that is found, or without examples
        problem = "the value is not finite"
    return found[0] if found else (NonFiniteError(f"{where}: {loss}", problem), place)


def _position(net: Layer, path: str) -> str:
    """Name a layer by its positions in the network, as errors do."""
    words = []
    for i in path.split(".") if path else ():
        words.append(f"{net.composition.label}[{i}]" if net.composition else i)
        net = net.parts[int(i)]
    return " ".join([*words, net.name])


def _describe_size(prediction: Arrays) -> str:
    """Say how large a finite prediction is, and what that means."""
    leaves = [leaf for leaf in tree.leaves(prediction) if leaf.is_floating_point() and leaf.numel()]
    if not leaves:
        return ""
    largest = max(leaves, key=lambda leaf: leaf.abs().max().item())
    size = largest.abs().max().item()
    # In float32, above 4e9: no loss should need such predictions.
    is_huge = size > torch.finfo(largest.dtype).max ** 0.25
    mend = "; the run diverges: lower the learning rate" if is_huge else ""
    return f"; the largest |prediction| is {size:.3g}{mend}"


def _all_finite(arrays: Arrays) -> bool:
    return all(bool(torch.isfinite(leaf).all()) for leaf in tree.leaves(arrays))
