"""A submission as a layer, from a file, a module or the names of a notebook; and its check.

A file and what it imports are run from their sources, whatever compiled code lies beside them.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.abc import PathEntryFinder
from importlib.machinery import FileFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any, TypeAlias

import attrs

from lincoln_fn import core, initializers
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, tree, unexpected
from lincoln_fn.testing import Report, check_layer
from lincoln_fn.testing.internal import Doubled, doubled, on_copies, random_like

# Any: the names of a module.
Names: TypeAlias = Mapping[str, Any]
Submission: TypeAlias = "Layer | ModuleType | SimpleNamespace | Names | str | os.PathLike[str]"
FUNCTIONS = ("forward", "backward")
OTHERS = ("init", "predict", "advance")


def load(submission: Submission) -> Layer | Names:
    """Load a submission; a file is run."""
    if isinstance(submission, (Layer, Mapping)):
        return submission
    if isinstance(submission, (ModuleType, SimpleNamespace)):
        return vars(submission)
    path = Path(submission)
    if path.suffix != ".py":
        raise unexpected("grade", "a file of Python", path.name, "name it *.py")
    return run_file(path)


def layer_of(names: Names, reference: Layer) -> Layer:
    """Make the layer that the names define."""
    # It is what the constructor of the reference's name makes, if there is one. Else it is made of
    # `forward` and `backward`, with the hyperparameters of the reference.
    constructor = names.get(core.called(reference.name))
    if callable(constructor) and not core.is_ours(constructor):
        made = eval(reference.name, {**vars(initializers), **names})  # the teacher's own code
        if not isinstance(made, Layer):
            raise unexpected("grade", f"{reference.name} to make a Layer", repr(made))
        return made
    missing = [name for name in FUNCTIONS if not callable(names.get(name))]
    if missing:
        raise unexpected("grade", "functions forward and backward", f"no {missing[0]}")
    forward, backward = (_bound(names[f], getattr(reference, f)) for f in FUNCTIONS)
    layer = Layer(reference.name, forward, backward, advance=reference.advance)
    others = [name for name in OTHERS if callable(names.get(name))]
    return layer.replace(**{f: _bound(names[f], getattr(reference, f)) for f in others})


def adapted(params: Params, names: Names) -> Params:
    """Make the reference's params of the submission's own record classes."""
    if type(params) is tuple:
        return tuple(adapted(part, names) for part in params)
    if not attrs.has(type(params)):
        return params
    fields = _fields(type(params))
    own = names.get(type(params).__name__)
    values = {name: adapted(getattr(params, name), names) for name in fields}
    if isinstance(own, type) and attrs.has(own) and _fields(own) == fields:
        return own(**values)
    if all(values[name] is getattr(params, name) for name in fields):
        return params
    return type(params)(**values)


def _fields(kind: type[attrs.AttrsInstance]) -> list[str]:
    return [field.name for field in attrs.fields(kind)]


# Any: of any of a layer's functions.
def _bound(function: Callable[..., Any], like: object) -> Callable[..., Any]:
    """Bind the hyperparameters of the reference's function that a function takes."""
    accepted = inspect.signature(function).parameters
    given = {name: value for name, value in core.arguments_of(like).items() if name in accepted}
    return partial(function, **given) if given else function


class SourceOnly(SourceFileLoader):
    """Loads a module from its source, and reads and writes no compiled code."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def run_file(path: Path, loader: type[SourceOnly] = SourceOnly, package: str = "") -> Names:
    """Run a file from its source, and return its names."""
    module = ModuleType(f"submission_{path.stem}")
    module.__file__, module.__package__ = str(path), package
    sys.modules[module.__name__] = module  # where decorators of classes look up names
    loader(module.__name__, str(path)).exec_module(module)
    return vars(module)


def import_sources_alone(folders: Sequence[Path], loader: type[SourceOnly] = SourceOnly) -> None:
    """Let all imports from these folders be of sources; it changes the process."""
    # Python's own and installed modules may lie below a folder of a student: a home, say.
    libraries = [path for path in map(Path, sys.path) if not {*path.parents}.isdisjoint(folders)]
    of_sources = FileFinder.path_hook((loader, [".py"]))

    def find(entry: str) -> PathEntryFinder:
        above = {Path(entry), *Path(entry).parents}
        if above.isdisjoint(folders) or not above.isdisjoint(libraries):
            raise ImportError
        return of_sources(entry)

    sys.path_hooks.insert(0, find)
    for entry in [*sys.path_importer_cache]:  # only these: clearing it all takes long
        if not {Path(entry), *Path(entry).parents}.isdisjoint(folders):
            del sys.path_importer_cache[entry]


def run_once(
    layer: Layer, params: Params, x: Arrays, refused: tuple[type[Exception], ...] = ()
) -> Arrays | None:
    """Run forward and backward of copies, and return y; None if they fail in any other way."""
    y = None
    try:
        once = on_copies(layer)
        y, cache = once.forward(params, x)
        once.backward(params, cache, random_like(y, Key(0)))
    except refused:
        raise
    except Exception:  # a submission may fail in any way; the check says how
        pass
    return y


def examined(
    submission: Submission, reference: Layer, case: tuple[Params, Arrays], ran: Callable[[], object]
) -> Report:
    """Check a submission for one case."""
    params, x = doubled(case)
    loaded = load(submission)
    if isinstance(loaded, Layer):
        layer, own = loaded, params
    else:
        layer, own = layer_of(loaded, reference), adapted(params, loaded)
    run_once(Doubled().inside(layer), own, x)
    ran()

    def right(own: Params, x: Arrays) -> tuple[Arrays, Cache]:
        given = tree.unflatten(params, tree.leaves(own, states=True), states=True)
        return reference.forward(given, x)[0], None

    return check_layer(layer, own, x, all=True, reference=reference.replace(forward=right))
