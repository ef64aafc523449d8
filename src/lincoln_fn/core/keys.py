"""Explicit randomness: a key, and numbers drawn from it.

A `Key` is 64 bits in an int64 tensor. Drawing never changes a key: the same key and shape give the
same numbers, so a key is used once and new ones are made by `split` or `fold_in`. The generator is
counter-based, number i of key k being

    mix(k XOR (i + 1) c),   mix(z):  z = (z XOR z >> 30) a,  z = (z XOR z >> 27) b,  z XOR z >> 31

with the finalizer and the odd constants a, b, c of SplitMix64 (Steele, Lea and Flood, "Fast
Splittable Pseudorandom Number Generators", OOPSLA 2014). XOR in place of SplitMix64's sum keeps the
sequence of one key from being a shifted copy of another's. All of it is integer arithmetic on
tensors, so the bits are the same eagerly, compiled, exported and on every device. Numbers are made
on the key's device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Final, ParamSpec

import numpy as np
import torch
from torch import Tensor

from lincoln_fn.core.record import State, record, static
from lincoln_fn.errors import later
from lincoln_fn.errors.arguments import PositiveInt, at_least, check_argument
from lincoln_fn.errors.descriptions import describe
from lincoln_fn.errors.errors import require

_P = ParamSpec("_P")
Shape = tuple[int, ...]


def _to_signed(bits: int) -> int:
    """Return the int64 with the bits of an unsigned 64-bit constant."""
    return bits - (1 << 64) if bits >= 1 << 63 else bits


# The numbers of at most 64 bits, signed or unsigned.
_LEAST: Final = -(1 << 63)
_MOST: Final = (1 << 64) - 1
_A: Final = _to_signed(0xBF58476D1CE4E5B9)
_B: Final = _to_signed(0x94D049BB133111EB)
_C: Final = _to_signed(0x9E3779B97F4A7C15)
# The keys of `fold_in`, those of `split` and the numbers drawn from the key are three streams.
_FOLDED: Final = _to_signed(0xD1342543DE82EF95)
_SPLIT: Final = _to_signed(0xAF251AF3B0F025B5)


def _shift_right(z: Tensor, by: int) -> Tensor:
    """Shift right logically; torch's own shift of an int64 copies the sign."""
    return (z >> by).bitwise_and_((1 << (64 - by)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)).mul_(_A)
    z = z.bitwise_xor_(_shift_right(z, 27)).mul_(_B)
    return z.bitwise_xor_(_shift_right(z, 31))


def _asking_for_a_seed(init: Callable[_P, None]) -> Callable[_P, None]:
    @wraps(init)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> None:
        if len(args) + len(kwargs) == 1:
            raise TypeError("Key: expected a seed, got none; write lf.Key(0), or another seed")
        init(*args, **kwargs)

    return call


@record
class Key(State):
    """The start of a sequence of random numbers; it is frozen, and drawing does not change it.

    Args:
        bits: an int seed of at most 64 bits, which is mixed into 64, or an int64 tensor of shape ()
            that holds the bits themselves.

    Example:
        >>> first, second = Key(0).split()
        >>> bool(first.bits == second.bits)
        False
    """

    bits: Tensor

    @_asking_for_a_seed
    def __init__(self, bits: int | Tensor) -> None:
        # An int becomes a tensor, so that a compiled step takes it as an input.
        if isinstance(bits, int | np.integer) and not isinstance(bits, bool):
            if not _LEAST <= bits <= _MOST:
                raise ValueError(f"Key: expected a seed of at most 64 bits, got {bits}")
            bits = _mix(torch.tensor(_to_signed(int(bits))))
        if not isinstance(bits, Tensor) or bits.dtype is not torch.int64:
            raise TypeError(f"Key: expected an int or an int64 tensor, got {describe(bits)}")
        require(not bits.ndim, "Key", "one seed, a tensor of shape ()", bits)
        object.__setattr__(self, "bits", bits)

    def split(self, n: int = 2) -> tuple[Key, ...]:
        """Make n new keys, independent of each other, of this key and of those of `fold_in`.

        Example:
            >>> len(Key(0).split(3))
            3
        """
        check_argument("Key.split", "n", PositiveInt, n)
        return tuple(self._child(i, _SPLIT) for i in range(n))

    def fold_in(self, data: int | Tensor) -> Key:
        """Make a new key from this one and a number, such as a step or an epoch.

        Args:
            data: an integer of at most 64 bits, or a tensor of shape () of any integer dtype.

        Example:
            >>> bool(Key(0).fold_in(7).bits == Key(0).fold_in(torch.tensor(7)).bits)
            True
        """
        if type(data) is not int or not _LEAST <= data <= _MOST:
            data = _check_number(data)
        return self._child(data, _FOLDED)

    def _child(self, data: int | Tensor, stream: int) -> Key:
        if self.bits.is_meta:  # no numbers, and an operation there takes long
            return self
        salt = _to_signed(data * _C % (1 << 64)) if isinstance(data, int) else data * _C
        return self._with(_mix((self.bits ^ stream) + salt))

    def near(self, x: Tensor) -> Key:
        """Move the key to a tensor's device, unless that is `meta`, where tensors have no values.

        Example:
            >>> Key(0).near(torch.empty(3, device="meta")).bits.device
            device(type='cpu')
        """
        if not isinstance(x, Tensor):
            raise later.wrong_kind("Key.near", "x", x, "tensor")
        if x.device == self.bits.device or x.is_meta:
            return self
        return self._with(self.bits.to(x.device))

    def for_rows(self, first: int, rows: int, of: int) -> Key:
        """Make the key whose draws for some rows of a batch are those rows of the batch's draws.

        A draw's rows are its axis 0. One that has k rows for each of the batch's, as after a
        reshape, is cut likewise. Keys that are made from it draw for the same rows.

        Args:
            first: the number of the first row.
            rows: how many rows are drawn for.
            of: the number of rows of the whole batch.

        Example:
            >>> whole, part = uniform(Key(0), (6, 2)), Key(0).for_rows(4, 2, of=6)
            >>> bool((uniform(part, (2, 2)) == whole[4:]).all())
            True
        """
        check_argument("Key.for_rows", "first", Annotated[int, at_least(0)], first)
        check_argument("Key.for_rows", "rows", PositiveInt, rows)
        check_argument("Key.for_rows", "of", Annotated[int, at_least(first + rows)], of)
        return _RowsKey(self.bits, torch.tensor(first, device=self.bits.device), rows, of)

    def for_all(self) -> Key:
        """Make the key that draws for the whole batch again.

        Example:
            >>> Key(0).for_rows(4, 2, of=6).for_all()
            Key(bits=int64 0)
        """
        return Key(self.bits)

    def _with(self, bits: Tensor) -> Key:
        return Key(bits)


@record
class _RowsKey(Key):
    first: Tensor  # and no constant: a compiled function takes it as an input
    rows: int = static()
    of: int = static()

    def __init__(self, bits: Tensor, first: Tensor, rows: int, of: int) -> None:
        super().__init__(bits)
        for name, value in (("first", first), ("rows", rows), ("of", of)):
            object.__setattr__(self, name, value)

    def _with(self, bits: Tensor) -> Key:
        return _RowsKey(bits, self.first.to(bits.device), self.rows, self.of)


def _check_number(data: object) -> int | Tensor:
    where = "Key.fold_in"
    if isinstance(data, Tensor):
        is_integer = not (data.is_floating_point() or data.is_complex() or data.dtype is torch.bool)
        require(is_integer and not data.ndim, where, "an integer tensor of shape ()", data)
        return data.long()  # a product in a shorter dtype would overflow
    if not isinstance(data, int | np.integer) or isinstance(data, bool):
        raise later.wrong_kind(where, "", data, "an int or an integer tensor")
    number = int(data)
    require(_LEAST <= number <= _MOST, where, "a number of at most 64 bits", number)
    return number


def checked_key(where: str, key: object) -> Key:
    """Check that a value is a `Key`."""
    if not isinstance(key, Key):
        raise later.wrong_kind(where, "key", key, "Key")
    return key


def bits(key: Key, shape: Shape) -> Tensor:
    """Draw 64 random bits for each element: int64, uniform over all 2^64 values.

    Example:
        >>> bits(Key(0), (2, 3)).shape
        torch.Size([2, 3])
    """
    checked_key("keys", key)
    mend = f"write ({shape},)" if isinstance(shape, int) else ""
    require(isinstance(shape, tuple | list), "keys", "shape to be a tuple of sizes", shape, mend)
    return _bits(key, tuple(shape))


def _bits(key: Key, shape: Shape, axis: int = 0) -> Tensor:
    """Draw bits whose batch's rows are an axis."""
    if key.bits.is_meta:
        return key.bits.new_empty(shape)
    # Not in place, because a key that is mapped over by vmap has another axis.
    return _mix(_counters(key, shape, axis).mul_(_C) ^ key.bits).view(shape)


def _counters(key: Key, shape: Shape, axis: int) -> Tensor:
    if not isinstance(key, _RowsKey) or len(shape) <= axis:
        return torch.arange(1, math.prod(shape) + 1, dtype=torch.int64, device=key.bits.device)
    rows, inner = shape[axis], math.prod(shape[axis + 1 :])
    first, of = rows * key.first // key.rows, rows * key.of // key.rows
    outer = torch.arange(math.prod(shape[:axis]), dtype=torch.int64, device=key.bits.device)
    within = torch.arange(rows * inner, device=key.bits.device) + (first * inner + 1)
    return (outer[:, None] * (of * inner) + within).flatten()


def uniform(
    key: Key, shape: Shape, low: float = 0.0, high: float = 1.0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Draw uniformly from [low, high).

    Args:
        high: the upper bound, not included; but scaling, or a short dtype, can round up to it.
        dtype: a floating dtype. float64 uses 53 random bits, every other dtype 24.

    Example:
        >>> bool((uniform(Key(0), (1000,)) < 1).all())
        True
    """
    return _unit(bits(key, shape), dtype).mul_(high - low).add_(low).to(dtype)


def _unit(drawn: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn random bits into numbers of [0, 1), in float32 for short dtypes."""
    width = 53 if dtype is torch.float64 else 24
    working = torch.float64 if dtype is torch.float64 else torch.float32
    return _shift_right(drawn, 64 - width).to(working).mul_(2.0**-width)


def normal(
    key: Key, shape: Shape, mean: float = 0.0, std: float = 1.0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Draw from the normal distribution, by Box and Muller's transform of two uniform numbers.

    With u in (0, 1], a number is sqrt(-2 log u) cos(2 pi v) std + mean.

    Example:
        >>> round(normal(Key(0), (100_000,)).std().item(), 2)
        1.0
    """
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    u, v = _unit(_bits(checked_key("keys", key), (2, *sizes), axis=1), dtype).unbind()
    radius = u.neg().log1p_().mul_(-2).sqrt_()
    unit = radius.mul_(v.mul(2 * math.pi).cos_())
    return unit.mul_(std).add_(mean).to(dtype)


def bernoulli(key: Key, shape: Shape, p: float) -> Tensor:
    """Draw True with probability p.

    Args:
        p: the probability, from 0 to 1, used with 53 bits.

    Example:
        >>> bernoulli(Key(0), (3,), p=1.0)
        tensor([True, True, True])
    """
    if not 0 <= p <= 1:
        raise ValueError(f"bernoulli: expected p from 0 to 1, got {p}")
    below: Tensor = _shift_right(bits(key, shape), 11) < math.ceil(p * 2.0**53)
    return below


def permutation(key: Key, n: int) -> Tensor:
    """Draw a random permutation of the numbers 0 to n - 1, in int64.

    Example:
        >>> permutation(Key(0), 4).sort().values
        tensor([0, 1, 2, 3])
    """
    return bits(key, (n,)).argsort()
