"""Compiled steps, cached on disk by a hash of their trace.

Inductor reads its own cache only after the step has been rewritten, and its compiler imported. That
takes two seconds for the first graph of a process. The trace of a step and the settings listed
below determine everything that follows. So the library that Inductor built is stored under a hash
of these, with a note that says what it does to the state.

Loading a library runs its code. So none is loaded from a path that a note contains, but only from
the note's own folder, and only if nobody but the user can have put it there (settings.py).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import attrs
import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiler.inductor import settings
from lincoln_fn.compiler.passes.donation import Fate, Flat
from lincoln_fn.compiler.tracing import Traced, graphs_in
from lincoln_fn.runtime import precision

_ENTRY: Final = "inductor_entry_cpp"
# Their operations change only with torch's version, or with this library's files.
_KNOWN: Final = (
    "aten", "prims", "prim", "mkldnn", "lincoln_fn", "higher_order", "_operator",
)  # fmt: skip
_SUFFIX: Final = ".so"
_FILES: Final = (".py", ".pyi", ".cpp", ".h")
_HERE: Final = Path(__file__).parents[2]


# Any: parts of torch whose types are not public.
Private: TypeAlias = Any
Handle: TypeAlias = Private  # of a tensor, which Python cannot read
Entry: TypeAlias = Callable[[list[Handle]], list[Handle]]


class Graph(NamedTuple):
    """A compiled graph, and what it does to each leaf of a donated state."""

    run: Flat
    fates: list[Fate] | None


@attrs.frozen
class Library:
    """A graph in a library that Inductor has built, as a function of the graph's inputs."""

    file: Path
    entry: Entry
    # From tensors to handles, and back. Imported here, so that a torch without them raises an
    # error.
    handles_of: Callable[[list[Tensor]], list[Handle]] = attrs.field(
        factory=lambda: torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors, init=False
    )
    tensors_of: Callable[[list[Handle]], list[Tensor]] = attrs.field(
        factory=lambda: torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs, init=False
    )

    def __call__(self, inputs: list[Tensor]) -> Sequence[Tensor]:
        """Run the graph, and empty the list."""
        handles = self.handles_of(inputs)
        inputs.clear()
        return self.tensors_of(self.entry(handles))


def library_of(compiled: Private) -> Library | None:
    """Find the library that a graph's function calls; None if it needs anything else."""
    if not settings.IS_KNOWN or compiled.constants:
        return None
    entry: Private = inspect.getclosurevars(compiled.current_callable).nonlocals.get("f")
    if getattr(entry, "__name__", None) != _ENTRY:
        return None
    return Library(Path(entry.__self__.__file__), entry)


def note_on(traced: Traced, *, donate: bool) -> Path | None:
    """Return the path of a step's note; None if the code depends on more than the hash covers."""
    # Imported here, because it takes as long as the rest of the library.
    from torch._inductor import config

    inductor: Private = config  # its functions are set when it is imported
    graphs = graphs_in(traced.graph)
    nodes = [node for graph in graphs for node in graph.graph.nodes]
    if (
        not settings.IS_KNOWN
        or inductor.force_disable_caches
        or not inductor.fx_graph_cache
        or not all(x.device.type == "cpu" for x in traced.inputs)
        or any(node.op == "call_module" or _is_constant(node) for node in nodes)
        or not all(_is_known(node.target) for node in nodes if node.op == "call_function")
    ):
        return None
    facts = (
        str(torch.__version__),
        torch.version.git_version,
        sys.implementation.cache_tag,
        digest(),
        inductor.get_hash(),
        settings.processor(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        precision(),
        donate,
        [(x.shape, x.stride(), x.dtype) for x in traced.inputs],
        [graph.code for graph in graphs],
    )
    name = hashlib.sha256(repr(facts).encode()).hexdigest()
    return Path(settings.cache_folder(), "lincoln_fn", f"{name}.json")


def find(note: Path | None) -> Graph | None:
    """Load the graph of a note; None if there is none, or it is damaged or somebody else's."""
    if note is None:
        return None
    file = note.with_suffix(_SUFFIX)
    try:
        if not (settings.is_own_file(note) and settings.is_own_file(file)):
            return None
        facts = json.loads(note.read_text())
        fates = facts["fates"]
        # Loading a library that is incomplete would end the process.
        if facts["sha256"] != _sha256(file.read_bytes(), fates):
            return None
        return Graph(Library(file, _entry_of(file)), fates)
    except (OSError, ValueError, TypeError, KeyError, ImportError, RecursionError):
        return None


def _entry_of(file: Path) -> Entry:
    # The library needs this address when it is loaded.
    address: Private = torch._C._dynamo.guards  # torch does not say what is in there
    os.environ["_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR"] = str(
        address._torchinductor_pyobject_tensor_data_ptr
    )
    loader = ExtensionFileLoader(f"{file.stem}.{_ENTRY}", str(file))
    module = module_from_spec(ModuleSpec(loader.name, loader, origin=loader.path))
    loader.exec_module(module)
    entry: Entry = getattr(module, _ENTRY)
    return entry


def keep(note: Path | None, graph: Graph) -> None:
    """Store a graph's library, if it is a single one, and its note."""
    if note is None or not isinstance(graph.run, Library):
        return
    try:
        note.parent.mkdir(mode=0o700, exist_ok=True)
        problem = settings.problem_of(note.parent)
        if problem is None:
            _write(note, graph.run.file.read_bytes(), graph.fates)
    except OSError as error:
        problem = f"{note.parent} cannot be written: {error}"
    if problem is not None:
        warnings.warn(f"a compiled step is not stored, because {problem}", stacklevel=2)


def _write(note: Path, library: bytes, fates: list[Fate] | None) -> None:
    facts = {"fates": fates, "sha256": _sha256(library, fates)}
    # The note is written last, because it says that the library is complete.
    for file, content in (
        (note.with_suffix(_SUFFIX), library),
        (note, json.dumps(facts).encode()),
    ):
        # Renamed when it is complete, because another process may read it at any time.
        handle, new = tempfile.mkstemp(dir=note.parent)
        with os.fdopen(handle, "wb") as out:
            out.write(content)
        os.replace(new, file)


def _sha256(library: bytes, fates: list[Fate] | None) -> str:
    return hashlib.sha256(library + json.dumps(fates).encode()).hexdigest()


# A memo: the files stay as they are while the process lives.
@cache
def digest(folder: Path = _HERE) -> str:
    """Return a hash of this library's files, on which the compiled code depends."""
    sha = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.suffix in _FILES):
        sha.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes() + b"\0")
    return sha.hexdigest()


def _is_constant(node: Node) -> bool:
    """Return whether a node reads a tensor, and not the body of a loop."""
    module = node.graph.owning_module
    return node.op == "get_attr" and not isinstance(getattr(module, str(node.target)), GraphModule)


def _is_known(target: Private) -> bool:
    return getattr(target, "namespace", target.__module__) in _KNOWN
