"""What a notebook shows of a value, and the extension that shows it of tuples and lists of records.

The params and the cache of a composition are tuples, and a loop collects its records in a list.
IPython asks a formatter by type for them. Every other tuple and list is shown as before. A network
is a tree that folds: each layer by the call that makes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import islice
from textwrap import shorten
from typing import Any, Final, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Layer, Params, Tree, format_briefly, html
from lincoln_fn.inspect import Trace
from lincoln_fn.inspect import internal as tables
from lincoln_fn.notebook.markup import Markup, element, fade, fold, history_html, table, wrap
from lincoln_fn.notebook.trees import tensor_cells, tree_html
from lincoln_fn.runtime import current_shell
from lincoln_fn.training import FitRecord, StepRecord, TrainState
from lincoln_fn.walk.internal import inside, paths
from lincoln_fn.walk.walks import there


@attrs.frozen(eq=False, repr=False)
class View:
    """A value as a notebook shows it.

    Args:
        text: what is shown where there is no HTML.
    """

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def view(value: Tree, params: Params | None = None, x: Arrays | None = None) -> View:
    """Show a value in a notebook: a network, params, a cache, gradients, a state, a history.

    A network is a tree of its layers. With params and x it also shows the params of each layer, and
    shape and histogram of each output. A tree of records is a table of its tensors: dtype and
    shape, histogram, smallest and largest number, mean, and the count of what is not finite. A list
    of the records of `train` is a curve.

    Raises:
        LayerError: if params and x are given, and value is not a network that takes them.

    Example:
        >>> shown = view((lf.dense(3).init(lf.Key(0), torch.zeros(1, 2)), ()))
        >>> shown
        (Params(weight=float32[2, 3], bias=float32[3]), ())
        >>> "dense.Params" in shown.html and "float32[2, 3]" in shown.html
        True
    """
    if params is None and x is None:
        return View(html_of(value), format_briefly(value))
    core.check_argument("view", "net", Layer, value, ("net", "params", "x"))
    return View(layer_html(value, uses_of(value, params, x)), format_briefly(value))


def html_of(value: Tree) -> str:
    """Return the HTML that `view` shows."""
    own = getattr(value, "_repr_html_", None)
    if own is not None:
        shown: str = own()
        return shown
    is_list = isinstance(value, list | tuple) and len(value) > 0
    if is_list and all(isinstance(entry, StepRecord | FitRecord) for entry in value):
        return history_html(value)
    return wrap(tree_html(value))


@html.register(TrainState)
def state_html(state: TrainState) -> Markup:
    """Show the state of a run."""
    heading = fade(f"TrainState after step {int(state.step):,}")
    names = ("params", "opt_state", "gradient_state", "key")
    kept = {name: getattr(state, name) for name in names}
    parts = [tree_html(part, name, is_open=False) for name, part in kept.items() if part != ()]
    return wrap(heading, *parts)


@html.register(Trace)
def trace_html(trace: Trace) -> Markup:
    """Show a trace: its table, with histograms of each output and each gradient."""
    shown = [
        (*row[:3], *map(_histogram, (record.output, record.gradient)), *row[3:-1], _bold(row[-1]))
        for row, record in zip(map(tables.cells, trace), trace, strict=True)
    ]
    first, last = tables.TRACE_HEADINGS[:3], tables.TRACE_HEADINGS[3:]
    return wrap(table((*first, "y", "dL/dy", *last), shown, left=5))


def _histogram(arrays: Arrays) -> str:
    return tensor_cells(arrays)[1] if isinstance(arrays, Tensor) else ""


def _bold(text: str) -> str:
    return element("b", text) if text else ""


@html.register(tables.Summary)
def summary_html(summary: tables.Summary) -> Markup:
    """Show a summary: its table, with the total in bold, and the remark below it."""
    *rows, total = tables.rows_of(summary)
    bold = [_bold(cell) for cell in total]
    shown = table(tables.SUMMARY_HEADINGS, [*rows, bold], left=3)
    return wrap(shown, fade(tables.remark_on(summary)))


_KINDS: Final = (tuple, list)
# Of a longer tuple or list, the first entries decide; a tuple within a tuple is looked into.
_LOOKED_AT: Final = 100
_DEEPEST: Final = 8


def load_ipython_extension(shell: Any) -> None:  # Any: an InteractiveShell, of IPython
    """Show tuples and lists of records as views from now on: `%load_ext lincoln_fn.notebook`.

    A formatter of your own for these types stays.
    """
    formatter = shell.display_formatter.formatters["text/html"]
    for kind in _KINDS:
        if kind not in formatter:
            formatter.for_type(kind, sequence_html)


def unload_ipython_extension(shell: Any) -> None:  # Any: as above
    """Show tuples and lists as IPython does: `%unload_ext lincoln_fn.notebook`."""
    formatter = shell.display_formatter.formatters["text/html"]
    for kind in _KINDS:
        if kind in formatter and formatter.lookup_by_type(kind) is sequence_html:
            formatter.pop(kind)


def load_if_in_ipython() -> None:
    """Load the extension, if the code runs in IPython or a notebook."""
    shell = current_shell()
    if shell is not None:
        shell.extension_manager.load_extension("lincoln_fn.notebook")


def sequence_html(value: tuple[object, ...] | list[object]) -> str | None:
    """Return the HTML of a tuple or list: its own, a view of the records in it, or None."""
    return html_of(value) if hasattr(value, "_repr_html_") or _has_record(value) else None


def _has_record(value: object, depth: int = 0) -> bool:
    if core.is_record(type(value)):
        return True
    if not isinstance(value, _KINDS) or depth > _DEEPEST:
        return False
    return any(_has_record(entry, depth + 1) for entry in islice(value, _LOOKED_AT))


# A longer call is cut; a composition's parts follow below it, and its tooltip is the whole call.
_LONGEST: Final = 72
# A network of more layers is folded below its first level.
_OPEN: Final = 40


# The params and the output of one use of a layer or a composition in a forward pass.
Use: TypeAlias = tuple[Params, Arrays]


@html.register(Layer)
def layer_html(net: Layer, uses: Mapping[str, list[Use]] | None = None) -> Markup:
    """Show a network as a tree."""
    is_open = sum(1 for _ in paths(net)) <= _OPEN
    return wrap(_tree(net, "", uses or {}, is_open))


def _tree(layer: Layer, path: str, uses: Mapping[str, list[Use]], is_open: bool) -> Markup:
    called = element("b", shorten(layer.name, _LONGEST, placeholder=" …"), title=layer.name)
    place = [fade(f"{path} ")] if path else []
    line = element("span", *place, called, *_describe_uses(layer, uses.get(path, [])))
    if not layer.parts:
        return element("div", line)
    parts = (_tree(part, inside(path, i), uses, is_open) for i, part in enumerate(layer.parts))
    return fold(line, *parts, is_open=is_open or not path)


def _describe_uses(layer: Layer, uses: list[Use]) -> list[str]:
    """Describe what a layer computes; for a single layer also its params, and a histogram of y."""
    if not uses:
        return []
    described = [f"used {len(uses)} times"] if len(uses) > 1 else []
    params, y = uses[0]
    leaves = core.named_leaves(params, states=True)
    if not layer.parts:
        described += [f"{name} {format_briefly(leaf)}" for name, leaf in leaves]
    else:
        described.append(f"{sum(leaf.numel() for _, leaf in leaves):,} numbers in params")
    shown: list[str] = [fade(f"  y {format_briefly(y)} ")]
    if not layer.parts and isinstance(y, Tensor):
        _, picture, _, _, lost = tensor_cells(y)
        shown += [picture if isinstance(picture, Markup) else fade(picture), lost]
    return [*shown, *(fade(f" · {text}") for text in described)]


def uses_of(net: Layer, params: Params, x: Arrays) -> dict[str, list[Use]]:
    """Run a network forward, as in training, and note each use of each layer."""
    uses: dict[str, list[Use]] = defaultdict(list)

    # Any: (y, record), as the walk through a composition returns them.
    def around(layer: Layer, path: str, params: Params, walk: Callable[[], Any]) -> Any:
        y, record = walk()
        uses[path].append((params, y))
        return y, record

    def single(layer: Layer, path: str, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        y, cache = around(layer, path, params, lambda: layer.forward(params, x))
        return y, cache

    with torch.no_grad():
        there(single, net, params, x, around=around)
    return dict(uses)
