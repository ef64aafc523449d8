"""Checks that a torch module computes what its class does, and the next step where it does not."""

from __future__ import annotations

from itertools import chain
from typing import Final

from torch import nn

from lincoln_fn.core import LayerError

_PRETRAINED: Final = "transformers.modeling_utils.PreTrainedModel"


def is_pretrained(module: nn.Module) -> bool:
    """Return whether a module is a model of Hugging Face's library."""
    kinds = type(module).__mro__
    return any(f"{k.__module__}.{k.__name__}" == _PRETRAINED for k in kinds)


def next_step(module: nn.Module) -> str:
    """Say how a layer is made of a module that cannot be converted."""
    is_part = type(module).__module__.startswith("transformers.") and not is_pretrained(module)
    whole = "give the whole model, or " if is_part else ""
    return f"{whole}make one layer of it by from_module"


# Where torch keeps a module's hooks.
_HOOKS: Final = ("forward_pre_hooks", "forward_hooks", "backward_pre_hooks", "backward_hooks")


def check_unchanged(module: nn.Module) -> None:
    """Check that a module and its submodules run only the code of their classes."""
    check_instances(module)
    for path, part in module.named_modules(remove_duplicate=False):
        if type(part).__call__ is not nn.Module.__call__:
            problem = f"expected its class's own __call__, got another; {next_step(module)}"
            raise LayerError(where_of(path, part), problem)


def check_instances(module: nn.Module) -> None:
    """Check that a module and its submodules have no hooks, and no forward of their own."""
    for path, part in module.named_modules(remove_duplicate=False):
        hooks = [name for name in _HOOKS if getattr(part, f"_{name}")]
        problem = ""
        if hooks:
            problem = f"expected no hooks, got {', '.join(hooks)}; remove them, or"
        elif "forward" in vars(part):
            problem = "expected its class's own forward, got another;"
        if problem:
            raise LayerError(where_of(path, part), f"{problem} {next_step(module)}")


def where_of(path: str, module: nn.Module) -> str:
    """Name a module by its path and its class, for an error."""
    return f"from_torch: {path} {type(module).__name__}".replace("  ", " ")


def check_untied(module: nn.Module) -> None:
    """Check that no tensor of a module has two names."""
    first: dict[int, str] = {}
    named = module.named_parameters, module.named_buffers
    for name, tensor in chain.from_iterable(each(remove_duplicate=False) for each in named):
        other = first.setdefault(id(tensor), name)
        if other != name:
            problem = f"{other} and {name} are one tensor, and would become two"
            mend = f"{next_step(module)}, in which it is one; or convert the parts one by one,"
            raise LayerError("from_torch", f"{problem}; {mend} and connect them by lf.tied")
