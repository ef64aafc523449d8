"""An exercise of a course: how its functions are called, and what they should compute.

A call is a line of Python in the course's own words:

    forward   out, cache = affine_forward(x, w, b)
    backward  dx, dw, db = affine_backward(dout, cache)

An array is given for each name of a case. `dout` is the gradient of the output `out`, and `dx` that
of the array `x`. What is floating and has no gradient in `backward` is a constant.
"""

from __future__ import annotations

import ast
import builtins
import copy
import re
import traceback
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from types import CodeType
from typing import Any, TypeAlias

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lincoln_fn.core import Arrays, Cache, Layer, Params, tree
from lincoln_fn.testing.internal import as_array, returned


def affine(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Compute x w + b, with all axes of x but the first as one."""
    return x.flatten(1) @ w + b


def svm_loss(x: Tensor, y: Tensor) -> Tensor:
    """Average the multi-class hinge loss over the examples."""
    return functional.multi_margin_loss(x, y) * x.shape[1]


def rnn(x: Tensor, h: Tensor, wx: Tensor, wh: Tensor, b: Tensor) -> Tensor:
    """Run h = tanh(x Wx + h Wh + b) along axis 1, and return all h."""
    states = []
    for step in x.unbind(1):
        h = torch.tanh(step @ wx + h @ wh + b)
        states.append(h)
    return torch.stack(states, 1)


def lstm_step(
    x: Tensor, h: Tensor, c: Tensor, wx: Tensor, wh: Tensor, b: Tensor, order: str = "ifog"
) -> tuple[Tensor, Tensor]:
    """Run one step of an LSTM: the next h and c."""
    parts = dict(zip(order, (x @ wx + h @ wh + b).chunk(4, 1), strict=True))
    i, f, o = (torch.sigmoid(parts[gate]) for gate in "ifo")
    c = f * c + i * torch.tanh(parts["g"])
    return o * torch.tanh(c), c


def lstm(x: Tensor, h: Tensor, wx: Tensor, wh: Tensor, b: Tensor) -> Tensor:
    """Run an LSTM along axis 1 from a cell of zeros, and return all h."""
    c, states = torch.zeros_like(h), []
    for step in x.unbind(1):
        h, c = lstm_step(step, h, c, wx, wh, b)
        states.append(h)
    return torch.stack(states, 1)


# Any: what a course's functions take, make and return.
Names: TypeAlias = Mapping[str, Any]
# What the expression of a right output may name.
_OURS = {each.__name__: each for each in (affine, svm_loss, rnn, lstm_step, lstm)}
_RIGHT: Names = {**vars(torch), **vars(functional), **_OURS}


class NotWrittenError(Exception):
    """The forward pass of an exercise returns None."""


@attrs.frozen(eq=False, slots=False)
class Exercise:
    """One layer or loss of a course: lines of Python, as the module shows them.

    Where a function returns its gradient, `backward` is what that is multiplied by.
    """

    name: str
    forward: str
    backward: str
    reference: str = ""  # an expression of the right output; further lines also count as right
    cases: Sequence[Mapping[str, Any]] = ()  # for each, by name, arrays and other arguments
    # Whether forward's objects remember the backward pass, as layers do that add up gradients.
    keeps_objects: bool = False

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs: those whose gradients backward uses."""
        used = _names(self.backward, ast.Load)
        return tuple(name for name in _names(self.forward, ast.Store) if f"d{name}" in used)

    @cached_property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays that backward gives a gradient of."""
        made = _names(self.backward, ast.Store)
        first = self.cases[0] if self.cases else {}
        return tuple(name for name in first if f"d{name}" in made)

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of the student's that the calls need."""
        lines = (self.forward, self.backward)
        made = {name for line in lines for name in _names(line, ast.Store)}
        known = {*made, "np", *(f"d{name}" for name in self.outputs)}
        known |= {*(self.cases[0] if self.cases else ())}
        used = dict.fromkeys(name for line in lines for name in _names(line, ast.Load))
        return tuple(name for name in used if name not in known and not hasattr(builtins, name))

    @cached_property
    def runs_again(self) -> bool:
        """Whether backward begins with a further run of forward."""
        # An object remembers what its backward did, so that each call has one of its own. Lines
        # that compute the gradient with the loss are seen only if they run in backward.
        used = _names(self.backward, ast.Load)
        return self.keeps_objects or not any(name in used for name in self.functions)

    def case(self, case: Mapping[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Divide a case into the tensors to differentiate by, and all else."""
        x = OrderedDict((name, torch.as_tensor(case[name])) for name in self.arrays)
        return x, {name: value for name, value in case.items() if name not in x}

    def told(self, sentence: str) -> str:
        """Write a sentence with the course's names."""
        for name in self.arrays:
            sentence = re.sub(rf"\b(d?)x\.{name}\b", rf"\g<1>{name}", sentence)
        return sentence

    def layer(self, names: Names, others: Names) -> Layer:
        """Make a layer of a student's functions, for the other arguments of a case."""
        lines = self.forward, self.backward
        forward, backward = (compile(line, self.name, "exec") for line in lines)
        plain = {"np": np, **names}

        def scope_of(x: Arrays) -> dict[str, Any]:
            scope = {"np": np, **names, **copy.deepcopy(dict(others))}
            scope.update({name: as_array(array) for name, array in x.items()})
            try:
                exec(forward, scope)
            except (TypeError, AttributeError) as error:
                *_, last = traceback.extract_tb(error.__traceback__)
                # Did a line of the table itself find None where a result belongs?
                if last.filename == self.name and "NoneType" in str(error):
                    raise NotWrittenError from error
                raise
            if any(_is_none(scope[name]) for name in self.outputs):
                raise NotWrittenError
            return scope

        def run(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
            # Forward may change x in place. Detached, a copy is no use of x.
            given = tree.map(lambda array: array.detach().clone(), x)
            scope = scope_of(x)
            y = tuple(returned(scope[name]) for name in self.outputs)
            # A name of the file may be that of an array, or of the table's cache.
            kept = {
                name: value
                for name, value in scope.items()
                if name != "__builtins__" and not (name in plain and value is plain[name])
            }
            return y[0] if len(y) == 1 else y, given if self.runs_again else kept

        def run_back(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
            fresh = scope_of(tree.map(torch.clone, cache)) if self.runs_again else cache
            scope = {"np": np, **names, **fresh}
            gs = g if isinstance(g, tuple) else (g,)
            for name, value in zip(self.outputs, gs, strict=True):
                scope[f"d{name}"] = as_array(value) if value.ndim else value.item()
            exec(backward, scope)
            found = ((name, returned(scope[f"d{name}"])) for name in self.arrays)
            return OrderedDict(found), ()

        return Layer(self.name, run, run_back)

    def references(self, others: Names, y: Arrays = None) -> list[Layer]:
        """Make the layers that are right, the usual one first; their backward is not used.

        Of a loss, their output has the shape of y, where that is given.
        """
        fixed = {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in others.items()
        }

        def forward(code: CodeType, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
            right = eval(code, {**_RIGHT, **fixed, **x})
            # The loss of some students has the shape (1, 1).
            is_loss = all(isinstance(each, Tensor) and each.numel() == 1 for each in (y, right))
            return right.reshape(y.shape) if is_loss else right, None

        codes = [compile(line, self.name, "eval") for line in self.reference.strip().splitlines()]
        forwards = (partial(forward, code) for code in codes)
        return [Layer(self.name, each, lambda params, cache, g: (g, ())) for each in forwards]


def _names(line: str, how: type[ast.expr_context]) -> tuple[str, ...]:
    found = (node for node in ast.walk(ast.parse(line)) if isinstance(node, ast.Name))
    return tuple(dict.fromkeys(node.id for node in found if isinstance(node.ctx, how)))


def _is_none(value: Any) -> bool:
    """Return whether an output is None, or an array of it alone."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return all(each is None for each in value.flat)
    return value is None
