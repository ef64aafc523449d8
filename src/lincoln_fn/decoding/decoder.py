"""A network that is run position by position, with an explicit state."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import attrs
import torch
from jaxtyping import Int64
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Layer, NonNegativeInt, Params, record, static, tree, unexpected
from lincoln_fn.decoding.rows import States, row_of, without_walk
from lincoln_fn.decoding.trial import find_states, run
from lincoln_fn.fastpath import fast
from lincoln_fn.recording import Pure, recorded


@record
class DecodeState:
    """What a step has to know of the positions before it.

    `position` is their number, a tensor. `layers` has the state of each layer that needs one, by
    its path; a layer that is used several times has one for each use, such as "0.1 (2)".
    `max_length` is the most positions, and `axis` their axis in the network's output.
    """

    position: Int64[Tensor, ""]
    layers: States
    max_length: int = static()
    axis: int = static()


@attrs.frozen(eq=False, repr=False)
class Decoder:
    """A network that is run position by position; made by `decode`."""

    net: Layer
    dim: int = 1
    # Wraps the function that `generate` calls for each token; `lf.compile` makes a graph of it.
    wrap: Callable[[Pure], Pure] = recorded
    opened: Layer = attrs.field(init=False)
    # `wrap` with a memo, on which no result depends: the next text is written by the same program.
    _wrapped: Callable[[Pure], Pure] = attrs.field(init=False)

    @opened.default
    def _open(self) -> Layer:
        return without_walk(fast(self.net))

    @_wrapped.default
    def _remember(self) -> Callable[[Pure], Pure]:
        return lru_cache(maxsize=4)(self.wrap)

    def __reduce__(self) -> tuple[type[Decoder], tuple[Layer, int, Callable[[Pure], Pure]]]:
        return Decoder, (self.net, self.dim, self.wrap)

    def __repr__(self) -> str:
        own_dim = "" if self.dim == 1 else f", dim={self.dim}"
        return f"decode({self.net.name}{own_dim})"

    def init(
        self, params: Params, batch_size: int, max_length: int, x: Arrays = None
    ) -> DecodeState:
        """Make the state before the first position.

        Args:
            max_length: the most positions of a text, on which the state's shapes depend.
            x: an example input, for a network whose input is not of token ids (batch_size, length):
                a tensor, or a tuple with the text, of any length, first and context behind it.

        Raises:
            LayerError: if a layer cannot decode. The error names the path of each.
        """
        for name, given in (("batch_size", batch_size), ("max_length", max_length)):
            core.check_argument("decode", name, core.PositiveInt, given)
        if x is None:
            devices = (leaf.device for leaf in tree.leaves(params, states=True))
            x = torch.zeros(batch_size, 1, dtype=torch.int64, device=next(devices, None))
            x = x.movedim(1, self.dim)
        short, long = (self._of_length(x, n) for n in (1, 2))
        states, axis = find_states(self.opened, params, short, long, max_length)
        position = torch.zeros((), dtype=torch.int64, device=_text(x).device)
        return DecodeState(position, states, max_length, axis)

    def step(self, params: Params, state: DecodeState, x: Arrays) -> tuple[Arrays, DecodeState]:
        """Compute the outputs of the next positions.

        Args:
            x: the next positions, one or several, such as token ids (batch_size, length). Context
                behind the text is the same at each step.

        Returns:
            The outputs, as `net.predict` of the whole text has them there, and the state behind.

        Raises:
            LayerError: as the layers raise it, or if there are more than `max_length` positions.
        """
        length = length_of(x, self.dim)
        # A graph cannot raise it: there, the slot is out of range, and this is called again.
        room = state.max_length - length
        if core.is_plain(state.position) and not core.is_between(0, state.position, room):
            expected = f"at most {state.max_length} positions, the state's max_length"
            raise unexpected("decode", expected, f"{state.position.item()} and {length} more")
        states = dict(state.layers)

        def at(layer: Layer, name: str, params: Params, x: Arrays) -> Arrays:
            if name not in states:
                return layer.predict(params, x)
            row = row_of(layer)
            assert row is not None, "a layer with a state has a row"
            y, states[name] = row.step(params, states[name], x, position=state.position)
            return y

        y = run(self.opened, params, x, at)
        return y, core.evolve(state, position=state.position + length, layers=states)

    def _of_length(self, x: Arrays, length: int) -> Arrays:
        length_of(x, self.dim)
        text = _text(x)
        shape = [*text.shape]
        shape[self.dim] = length
        zeros = text.new_zeros(shape)
        return (zeros, *x[1:]) if type(x) is tuple else zeros


def _text(x: Arrays) -> Arrays:
    return x[0] if type(x) is tuple and x else x


def length_of(x: Arrays, dim: int) -> int:
    """Return how many positions an input has."""
    text = _text(x)
    if not isinstance(text, Tensor) or text.ndim <= dim:
        expected = f"x to be a tensor with positions in axis {dim}, or a tuple with it first"
        raise unexpected("decode", expected, core.format_briefly(x))
    return text.shape[dim]


@core.checked
def decode(net: Layer, *, dim: NonNegativeInt = 1) -> Decoder:
    """Make a network run position by position, for instance to write text.

    Recurrent layers keep their last state, causal attention its keys and values, causal
    convolutions their last inputs. A layer that mixes positions otherwise is refused, unless it
    declares how it decodes. `lf.compile` takes the decoder, and its `step`, too.

    Args:
        dim: the axis of the positions in the network's input: 1, or 0 if the batch is the second.

    Example:
        >>> net, text = lf.serial(lf.embedding(10, 4), lf.gru(8)), torch.tensor([[1, 2, 3]])
        >>> params, decoder = net.init(lf.Key(0), text), lf.decode(net)
        >>> state = decoder.init(params, batch_size=1, max_length=3)
        >>> y, state = decoder.step(params, state, text[:, :2])
        >>> last, state = decoder.step(params, state, text[:, 2:])
        >>> torch.allclose(torch.cat([y, last], 1), net.predict(params, text), atol=1e-6)
        True
    """
    return Decoder(net, dim)
