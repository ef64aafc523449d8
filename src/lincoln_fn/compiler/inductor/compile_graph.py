"""A traced graph as a fast function, by torch's Inductor."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from torch._guards import TracingContext, detect_fake_mode, tracing
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from lincoln_fn.compiler.inductor.disk_cache import digest, library_of
from lincoln_fn.compiler.inductor.vectors import VECTORS, compiler_flags
from lincoln_fn.compiler.inductor.versions import IS_KNOWN
from lincoln_fn.compiler.passes.donation import Flat

aten = torch.ops.aten

_OPTIONS: Final = {
    # The caller has compared sizes and strides.
    "size_asserts": False,
    "alignment_asserts": False,
    # Its sums of indices do not wrap around at 64 bits, as the draws from a key rely on: with it,
    # the masks of dropout would be others.
    "constant_and_index_propagation": False,
    # A layer of the user's own that draws from torch's generator draws the same numbers so.
    "fallback_random": True,
    # What is made again on the way back would be made at once, and kept till then.
    "reorder_for_locality": False,
    # Loops and products are called from C++, for a call from Python takes as long as a small one.
    "cpp_wrapper": True,
    # Loops that do not follow from each other stay apart: made one, they would keep the tensors of
    # each until the last has run, a gradient till the next layer's.
    "cpp.max_horizontal_fusion_size": 1,
    # A loop of fewer elements is done before a second thread has woken up.
    "cpp.min_chunk_size": 4096,
    # To compile the headers apart takes longer than to compile a few graphs with them. They would
    # be kept in a folder that others may be able to write, whatever the cache folder is.
    "cpp_cache_precompile_headers": False,
    **VECTORS,
}


def by_inductor(graph: GraphModule, inputs: tuple[Tensor, ...], *, small: bool) -> Flat:
    """Let Inductor compile a graph."""
    # Only its inner half runs. The outer half prepares for autograd and for functions that change
    # their inputs. It would take as long, at every call, as a small network's matrix product.
    with warnings.catch_warnings():
        # Inductor itself, as it is imported, uses parts of torch that torch calls deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Imported here, for it takes longer than all the rest of the library.
        from torch._inductor import config
        from torch._inductor.compile_fx import compile_fx_inner

        fake = detect_fake_mode(inputs)
        assert fake is not None  # for the inputs are fake
        options = {**_OPTIONS, **compiler_flags(), **({"cpp.threads": 1} if small else {})}
        with fake, torch.no_grad(), config.patch(options), _extend_inductor():
            simpler = _simpler(graph, inputs)
            # The context says which sizes are numbers, without which no compiled graph is kept.
            with tracing(TracingContext(fake)), _silent_on_proxies():
                compiled: Any = compile_fx_inner(
                    simpler, inputs, is_inference=True, cpp_wrapper=True
                )
            # Without what Inductor does around each call, to record it for its own use.
            run: Flat = library_of(compiled) or compiled.current_callable
            return run


@contextmanager
def _extend_inductor() -> Iterator[None]:
    """Have Inductor call this library's operations from C++, and reuse memory read no more."""
    # A torch with which neither has been tried calls the operations through Python.
    if not IS_KNOWN:
        yield
        return
    from torch._inductor import config as options

    from lincoln_fn.compiler.inductor.in_place import WithoutOrderings
    from lincoln_fn.compiler.inductor.lowering import lower

    lower()
    # A graph that another version of this library compiled is not to be found.
    config: Any = torch.compiler.config  # Any: its functions are put in as it is imported
    with (
        config.patch(cache_key_tag=config.cache_key_tag + digest()),
        options.patch(
            {
                "_pre_fusion_custom_pass": WithoutOrderings(),
                # The calls apart from the loops, and with less optimization: they are no slower for
                # it, and took the C++ compiler five times as long together.
                "cpp_wrapper_build_separate": True,
            }
        ),
    ):
        yield


def _simpler(graph: GraphModule, inputs: tuple[Tensor, ...]) -> GraphModule:
    """Write a graph in the operations that Inductor knows best."""
    from torch._inductor.decomposition import select_decomp_table

    # Inductor's own single pass over the numbers fails without its propagation of indices.
    # Any: operations, which torch has no public type for.
    own: dict[Any, Any] = {aten.var_mean.correction: _var_mean, aten.var.correction: _var}
    # Without Inductor's passes over joint graphs: they find nothing to do in a step, and look for
    # other writings of attention and the like for a third of a second.
    simpler = make_fx(graph, {**select_decomp_table(), **own})(*inputs)
    end = simpler.graph.output_node()
    outputs: Any = end.args[0]  # Any: torch's type for a node's arguments names no list
    traced: Any = graph.graph.output_node().args[0]  # Any: as above
    end.args = (tuple(outputs),)
    # Those whose strides are to be as traced, whatever pass has changed them since, so that the
    # next step is of the same kind.
    visible = [i for i, output in enumerate(outputs) if isinstance(output, Node)]
    for i in visible:
        shown = traced[i].meta["val"]
        outputs[i].meta["val"] = (
            outputs[i].meta["val"].new_empty_strided(shown.shape, shown.stride())
        )
    end.meta["user_visible_output_idxs"] = visible
    return simpler


@contextmanager
def _silent_on_proxies() -> Iterator[None]:
    """Keep Inductor from logging a warning of each operation that it has no call for in C++."""
    log = logging.getLogger("torch._inductor.ir")

    def is_other(record: logging.LogRecord) -> bool:
        return "using proxy executor" not in str(record.msg)

    log.addFilter(is_other)
    try:
        yield
    finally:
        log.removeFilter(is_other)


def _var_mean(
    x: Tensor, dim: list[int] | None = None, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    dims = dim or list(range(x.ndim))
    mean = x.mean(dims, keepdim=True)
    count = math.prod(x.shape[d] for d in dims) - (1 if correction is None else correction)
    var = (x - mean).square().sum(dims, keepdim=keepdim) / max(count, 0)
    return var, mean if keepdim else mean.squeeze(tuple(dims))


def _var(*args: Any, **kwargs: Any) -> Tensor:  # Any: those of _var_mean
    return _var_mean(*args, **kwargs)[0]
