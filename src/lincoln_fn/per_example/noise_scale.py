"""The gradient noise scale: how large a batch is worth its cost, by layer.

Derivation. The gradient h_n of example n's own loss is drawn with mean G and covariance Sigma, and
a batch of B has the gradient G_B = 1/B sum_n h_n. So

    E ||h_n||^2 = ||G||^2 + tr(Sigma)
    E ||G_B||^2 = ||G||^2 + tr(Sigma) / B

One batch gives both, with m = 1/B sum_n ||h_n||^2 for the first. Solved for the two unknowns:

    signal = (B ||G_B||^2 - m) / (B - 1)      E signal = ||G||^2
    noise  = (m - ||G_B||^2) B / (B - 1)      E noise = tr(Sigma)

They are linear in what is measured, so neither has a bias. It can be read off them again:
m = signal + noise, and ||G_B||^2 = signal + noise / B. The simple noise scale is
tr(Sigma) / ||G||^2. A batch of so many examples has a gradient whose variance equals its squared
mean: more examples gain little, and fewer lose little.

A quotient of two estimates has a bias, and that of one batch is mostly chance. So running means
over the steps are divided, which both begin at 0, and need no correction for that:

    S <- e S + (1 - e) signal        N <- e N + (1 - e) noise        scale = N / S

Both are sums over the parameters. The scale of a layer, or of the network, is the sum of its N
divided by the sum of its S.

If an example has many rows, its dW_n = x_n^T g_n is a product of its own, and dW is their sum. That
takes the multiplications of dW alone. If it has few, dW_n has more numbers than the inner products
of the rows, which give ||dW_n||^2 without it (`forms.py`).

Source: McCandlish and others, "An Empirical Model of Large-Batch Training", 2018, appendix A.1;
with each example's own norm and by layer: Gray and others, "Normalization Layer Per-Example
Gradients are Sufficient to Predict Gradient Noise Scale in Transformers", NeurIPS 2024.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial, reduce
from typing import Literal

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Decay, Gather, Outer, Params, Term, tree, unexpected
from lincoln_fn.per_example import forms
from lincoln_fn.per_example.network import examples_in, terms_of
from lincoln_fn.streams import Stream
from lincoln_fn.streams.internal import closing
from lincoln_fn.training import Gradient, StepRecord, TrainState


@core.record
class NoiseState:
    """The running means S and N of each parameter, in the order of `tree.paths`."""

    signal: Float[Tensor, " leaves"]
    noise: Float[Tensor, " leaves"]


@core.constructor
def noise_scale(decay: Decay = 0.95, *, reduction: Literal["mean", "sum"] = "mean") -> Gradient:
    """Measure the noise of each parameter's gradient, and leave the gradient as it is.

    S and N are the running means of ||G||^2 and tr(Sigma), and N / S is the simple noise scale in
    examples. `with_noise` reads it from a run, by path. dparams is that of `net.grads`, summed in
    another order. Its state needs `init_state(..., gradient=gradient)`.

    Args:
        decay: e, how much of S and N a step keeps; 0 for those of the step alone.
        reduction: that of the step's loss. A mean has to be over the examples: see `clipped`.

    Raises:
        LayerError: from `make_step`, if an example moves the gradients of others in the loss; from
            the step, by name, for a layer that mixes examples, and for a batch of fewer than two.

    Source:
        McCandlish and others, "An Empirical Model of Large-Batch Training", 2018.

    Example:
        >>> net, loss = lf.dense(10), lf.losses.softmax_cross_entropy()
        >>> lf.make_step(net, loss, lf.optim.sgd(0.1), gradient=noise_scale(0.9)).gradient
        noise_scale(decay=0.9)
    """
    compute = partial(_compute, is_mean=reduction == "mean")
    return core.bare(partial(Gradient, reduction=reduction, by_example=True), compute, _init)


def _init(net: core.Layer, params: Params) -> NoiseState:
    leaves = tree.leaves(params)
    near = leaves[0] if leaves else torch.zeros(())
    zeros = near.new_zeros(len(leaves), dtype=torch.promote_types(near.dtype, torch.float32))
    return NoiseState(zeros, zeros.clone())  # `donate` allows no tensor twice


def _compute(
    net: core.Layer, params: Params, cache: core.Cache, g: core.Arrays, state: NoiseState,
    key: core.Key, *, decay: float, is_mean: bool,
) -> tuple[Params, NoiseState]:  # fmt: skip
    count = examples_in(g)
    core.require(count > 1, "noise_scale", "a batch of at least two examples", count)
    if not isinstance(state, NoiseState):
        given, mend = core.format_briefly(state), "write init_state(..., gradient=gradient)"
        raise unexpected("noise_scale", "the state of noise_scale", given, mend)
    terms = terms_of("noise_scale", net, params, cache, g)
    of_sum, of_each = [state.signal.new_zeros(0)], [state.signal.new_zeros(0)]

    def total(p: Tensor, term: Term | Tensor) -> Tensor:
        zero = state.signal.new_zeros(())
        dp, squares = _sums(term, p) if isinstance(term, Term) else (term, zero)
        of_sum.append(_square(dp).reshape(1).to(zero.dtype))
        of_each.append(squares.reshape(1).to(zero.dtype))
        return dp

    dparams = tree.map(total, params, terms)
    scale = count if is_mean else 1  # h_n = scale d_n
    of_mean, mean = torch.cat(of_sum) * (scale / count) ** 2, torch.cat(of_each) * scale**2 / count
    signal = (count * of_mean - mean) / (count - 1)
    noise = (mean - of_mean) * (count / (count - 1))
    running = [torch.lerp(*both, decay) for both in ((signal, state.signal), (noise, state.noise))]
    return core.cast_like(dparams, params), NoiseState(*running)


def _sums(term: Term, p: Tensor) -> tuple[Tensor, Tensor]:
    """Compute sum_n d_n and sum_n ||d_n||^2, of a few examples after the other."""
    if _has_few_rows(term, p):
        norms, term = forms.measure(term, p)
        return forms.weighted_sum(term, p, torch.ones_like(norms)), norms.sum()
    pairs = ((d.sum(0), _square(d)) for d in forms.in_parts(term, p))
    return reduce(lambda one, other: (one[0] + other[0], one[1] + other[1]), pairs)


def _has_few_rows(term: Term, p: Tensor) -> bool:
    """Return whether inner products of an example's rows take fewer steps than d has numbers."""
    if not isinstance(term, Outer | Gather):
        return False
    width = term.g.shape[-1] + (term.x.shape[-1] if isinstance(term, Outer) else 0)
    return term.g.shape[1] ** 2 * width <= p.numel()


def _square(d: Tensor) -> Tensor:
    return d.flatten().dot(d.flatten())


@attrs.frozen(eq=False)
class NoiseScales(Mapping[str, float]):
    """The simple noise scale of every parameter by its path, and of what a path or pattern names.

    `noise[""]` is that of the network, `noise["2"]` of the parameters below path 2, and
    `noise["*.bias"]` of all that match. It is negative or infinite where a batch's gradient cannot
    be told from noise.
    """

    signal: Mapping[str, float]
    noise: Mapping[str, float]

    def __getitem__(self, path: str) -> float:
        """Divide the sums of N and of S over the parameters that a path names."""
        names = [name for name in self.signal if _is_below(name, path)]
        if not names:
            known = "there are " + ", ".join(map(repr, [*self.signal][:6]))
            raise unexpected("noise", "the path of parameters, or a pattern", repr(path), known)
        signal, noise = (sum(each[name] for name in names) for each in (self.signal, self.noise))
        return noise / signal if signal else float("nan" if noise == 0 else "inf")

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and any(_is_below(name, path) for name in self.signal)

    def __iter__(self) -> Iterator[str]:
        return iter(self.signal)

    def __len__(self) -> int:
        return len(self.signal)


def _is_below(name: str, path: str) -> bool:
    return path == "" or fnmatchcase(name, path) or fnmatchcase(name, f"{path}.*")


@core.record
class NoiseRecord(StepRecord):
    """The record of a step, with the noise scales after it."""

    noise: NoiseScales = core.static(kw_only=True)


@core.checked
def with_noise(stream: Stream) -> Iterator[tuple[TrainState, NoiseRecord]]:
    """Add the noise scales of a run whose step has `gradient=noise_scale()` to each record.

    Raises:
        LayerError: from the stream, if the state has no noise: the step has another gradient.

    Example:
        >>> net, x, target = lf.dense(1, bias=False), torch.tensor([[1.0], [3.0]]), torch.ones(2, 1)
        >>> optimizer, gradient = lf.optim.sgd(0.0), noise_scale(0.0)
        >>> params = lf.layers.dense.Params(torch.zeros(1, 1), None)
        >>> state = lf.init_state(net, optimizer, lf.Key(0), x, params=params, gradient=gradient)
        >>> step = lf.make_step(net, lf.losses.mse(), optimizer, gradient=gradient)
        >>> for _, record in with_noise(lf.train(step, state, [(x, target)])):
        ...     record.noise["weight"], record.noise[""]  # of the gradients -2 and -6: 8 / 12
        (0.6666666865348816, 0.6666666865348816)
    """

    def measuring() -> Iterator[tuple[TrainState, NoiseRecord]]:
        with closing("with_noise", stream) as steps:
            for state, record in steps:
                yield state, _with_scales(state, record)

    return measuring()


def _with_scales(state: TrainState, record: StepRecord) -> NoiseRecord:
    kept = state.gradient_state
    if not isinstance(kept, NoiseState):
        given = f"gradient_state {core.format_briefly(kept)}"
        mend = "write gradient=lf.per_example.noise_scale()"
        raise unexpected("with_noise", "a state with noise", given, mend)
    paths = tree.paths(state.params)
    signal, noise = (dict(zip(paths, of.tolist(), strict=True)) for of in (kept.signal, kept.noise))
    numbers = record.step, record.loss, record.examples, record.scores
    return NoiseRecord(*numbers, noise=NoiseScales(signal, noise))
