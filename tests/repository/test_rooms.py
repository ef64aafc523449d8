"""The rooms of the library: what each may import, and who may touch torch's compiler."""

import ast
import importlib
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lincoln_fn
from lincoln_fn import faces

LIBRARY = Path(lincoln_fn.__file__).parent
COMPILER = LIBRARY / "compiler"
# Of torch's private parts those that change with each version, as attributes, in texts or imported.
PRIVATE = re.compile(r"\btorch\.(_inductor|_C|_dynamo)\b|from torch import .*\b(_C|_dynamo)\b")

# Each room imports from those before it. What is not in a room imports from all: the package's own
# `__init__.py` and its programs, `__main__.py` and `vocabulary.py`. `faces.py` imports none.
ROOMS = (
    *("errors", "core", "runtime", "walk", "initializers", "layers", "losses", "schedules"),
    *("optim", "combine", "fastpath", "recording", "training", "streams", "decoding"),
    *("compiler", "checkpoint", "rules", "per_example", "inspect", "attribution", "curvature"),
    *("replay", "interop", "testing", "grading", "finetune", "distributed", "estimators"),
    *("plots", "notebook"),
)
TOP = len(ROOMS)
# Rooms that can be deleted (test_rooms_deleted.py): all but these.
ABOVE = *ROOMS[: ROOMS.index("fastpath")], "training", "testing"
BELOW = tuple(room for room in ROOMS if room not in ABOVE)
# Modules that are found by a name made at run time; no import names them. faces.py finds those of
# the room that asks, record.py the views of a notebook, gears.py what makes a step faster, prove.py
# the gradients of single examples, and the others those of their folder or room, or of one before
# it; course.py and check.py import a user's file, which is none of the library's.
BY_NAME = {
    "faces.py", "core/record.py", "layers/__init__.py", "layers/common/constructors.py",
    "interop/architectures/__init__.py", "grading/courses/course.py", "training/gears.py",
    "testing/prove.py", "testing/functions/check.py",
}  # fmt: skip
# Where users find the names and the commands of a room: they are loaded when they are first named.
LATER = dict.fromkeys(
    ("lincoln_fn.testing.grade", "lincoln_fn.testing.assignment"), "lincoln_fn.grading"
)


def module_of(file, root=LIBRARY):
    """Give the dotted name of a file's module."""
    return ".".join([root.name, *file.relative_to(root).with_suffix("").parts]).removesuffix(
        ".__init__"
    )


@cache
def seen_in(source):
    """Give the (module, name, own name) that code imports, and the (name, attribute) that it reads.

    It imports wherever: in functions and for types, too. An import within a function only comes
    later, and one for a type checker only names a type. Both still say that this file cannot be
    understood without the other.
    """
    imports, attributes = [], []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imports += ((alias.name, "", "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "the library imports by full names"
            imports += ((node.module, name.name, name.asname or name.name) for name in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            attributes.append((node.value.id, node.attr))
    return imports, attributes


def is_below(name, rooms):
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def imported_by(source):
    """Give the (module, name) that code imports, and those that it takes as `core.Layer`."""
    imports, attributes = seen_in(source)
    whole = {own: f"{module}.{name}" for module, name, own in imports}
    faces = {own: face for own, face in whole.items() if face in FACES}
    yield from ((module, name) for module, name, _ in imports)
    yield from ((faces[name], attribute) for name, attribute in attributes if name in faces)


def homes_of(face):
    """Give the file of each name of a face, and what the name is there."""
    return faces._homes(module_of(face.with_name("__init__.py")), face.stem)


FACES = {module_of(file): homes_of(file) for file in LIBRARY.rglob("*.pyi")}


def graph_of(files):
    """Give the modules that each module imports, of those that the files are.

    A face imports nothing: what is taken from it is imported from the file where it stands.
    """
    sources = {module_of(file): file.read_text() for file in files}
    graph = {}
    for module, source in sources.items():
        graph[module] = set()
        for home, name in imported_by(source):
            home, name = FACES.get(home, {}).get(name, (home, name))
            inner = f"{home}.{name}"
            graph[module] |= {inner if inner in sources else home} & sources.keys() - {module}
        later = [LATER.get(module, "-")]
        graph[module] -= {name for name in graph[module] if is_below(name, later)}
    return graph


def room_of(module):
    """Give the place of a module's room in the order."""
    if module == "lincoln_fn.faces":
        return -1
    room = module.split(".")[1] if "." in module else ""
    return ROOMS.index(room) if room in ROOMS else TOP


def upward(graph):
    """List the imports from a room that comes later."""
    return {
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in others
        if room_of(other) > room_of(module)
    }


def circle(graph):
    """Give the modules of one circle of imports, if there is any."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


@cache
def graph():
    """Give the graph of the library."""
    return graph_of(LIBRARY.rglob("*.py"))


def test_every_folder_is_a_room():
    assert {file.parent.name for file in LIBRARY.glob("*/__init__.py")} == set(ROOMS)
    files = {"__init__.py", "__main__.py", "faces.py", "vocabulary.py"}
    assert {file.name for file in LIBRARY.glob("*.py")} == files


def test_no_import_runs_upwards():
    assert len(graph()) > 500
    assert sum(map(len, graph().values())) > 3000
    assert upward(graph()) == set()


def test_no_modules_import_each_other_in_a_circle():
    assert circle(graph()) == []


# A file of `layers/` is a face of its own. So are the functions of a formula, in any file.
FORMULAS = {
    *("init", "forward", "backward", "predict", "input_grad", "grads", "advance", "update"),
    *("there", "back", "rules", "main"),
}


def past_a_face(source, module):
    """List what some code of a module imports from another room, private or not from its face."""
    own = module.split(".")[1]
    for home, name in imported_by(source):
        room = home.split(".")[1] if home.startswith("lincoln_fn.") else own
        is_listed = name in FACES.get(home, ()) or f"{home}.{name}" in FACES
        is_private = room != own and re.search(r"\._(?!_)", f"{home}.{name}")
        shared = {own, room} == {"core", "errors"} or room in ("faces", "layers", own)
        if is_private or not (shared or module in LATER or is_listed or name in FORMULAS):
            yield f"{module}: {home}.{name}"


def test_imports_across_rooms_take_names_from_faces():
    found = {
        line
        for file in LIBRARY.rglob("*/*.py")
        for line in past_a_face(file.read_text(), module_of(file))
    }
    assert found == set()


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("from lincoln_fn.core.layer import Layer", 1),
        ("from lincoln_fn.optim.leaves import Lists", 1),
        ("from lincoln_fn.optim.internal import Lists", 0),
        ("from lincoln_fn.optim.sgd import update", 0),
        ("from lincoln_fn.layers.relu import _relu", 1),
        ("def show():\n    from lincoln_fn.notebook import views", 1),
        ("if TYPE_CHECKING:\n    from lincoln_fn.notebook.views import View", 1),
        ("from lincoln_fn import core\ncore.describe", 0),
        ("from lincoln_fn.optim import internal as parts\nparts.Lists", 0),
        ("from lincoln_fn.optim import internal as parts\nparts.leaves", 1),
    ],
)
def test_an_import_past_a_face_is_seen(code, count):
    assert len([*past_a_face(code, "lincoln_fn.rules.feedback")]) == count


def test_a_name_in_a_face_stands_in_its_file():
    for face, homes in FACES.items():
        module = importlib.import_module(face)
        for name in homes:
            assert getattr(module, name) is not None, f"{face}.{name}"


@pytest.mark.full
def test_a_room_is_loaded_when_it_is_first_named():
    code = """
import sys
before = {*sys.modules}
import lincoln_fn as lf
assert not {"torch", "lincoln_fn.core", "lincoln_fn.layers"} & (sys.modules.keys() - before)
lf.sigmoid
assert "lincoln_fn.training" not in sys.modules
assert lf.serial is lf.serial and callable(lf.combine.serial)
import lincoln_fn.combine.serial
assert callable(lf.combine.serial), "a file that has been imported hides its function"
summary = lf.summary(lf.dense(3), sys.modules["torch"].ones(1, 2))
assert "<table" in summary._repr_html_(), "the views of a notebook load when one is asked for"
assert {"serial", "optim", "__version__"} <= set(dir(lf)) and {"sgd"} <= set(dir(lf.optim))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def files_with(pattern):
    """List the files of the library in which a pattern stands."""
    files = (file for file in LIBRARY.rglob("*.py") if re.search(pattern, file.read_text()))
    return {file.relative_to(LIBRARY).as_posix() for file in files}


def test_modules_found_by_name_are_those_of_these_files():
    assert files_with(r"\bimport_module\(|__import__\(") == BY_NAME


def test_an_import_upwards_and_a_circle_are_found():
    views, tree = "lincoln_fn.notebook.views", "lincoln_fn.core.tree"
    planted = {**graph(), tree: graph()[tree] | {views}}
    assert upward(planted) == {f"{tree} imports {views}"}
    assert {views, tree} <= set(circle(planted))


@pytest.mark.parametrize(
    "code",
    [
        "import torch._inductor.config",
        "from torch._C import _aoti",
        "from torch import _dynamo",
        "torch._C._set_grad_enabled(True)",
        'import_module("torch._inductor.ir")',
    ],
)
def test_every_way_to_name_a_private_part_is_seen(code):
    assert PRIVATE.search(code)


def test_torchs_compiler_and_c_parts_are_touched_in_three_places():
    found = files_with(PRIVATE)
    inside = {file for file in found if file.startswith("compiler/inductor/")}
    # What runs on `meta` asks whether the compiler has been imported.
    assert found - inside == {"recording/by_kind.py", "runtime/on_meta.py"}
    assert inside


@pytest.mark.parametrize("part", ["cpp_kernel", "tracing", "decompositions"])
def test_kernels_and_traces_know_nothing_of_what_uses_them(part):
    above = [f"lincoln_fn.compiler.{user}" for user in ("passes", "graphs", "compile", "export")]
    assert not [name for name in graph()[f"lincoln_fn.compiler.{part}"] if is_below(name, above)]


def test_each_file_in_cpp_has_its_operation_in_a_pass():
    files = [*COMPILER.rglob("*.cpp")]
    assert len(files) >= 6
    passes = "".join(file.read_text() for file in (COMPILER / "passes").glob("*.py"))
    for file in files:
        assert f'"{file.stem}(' in passes, file


# What a layer is stands in its spec and its traits: no room wins it back by names or bindings.


# Files that ask something else: of operations of torch, of syntax trees, of what code refers to, of
# classes that are not layers.
OTHERS = {
    "keywords": {
        "grading/handouts.py", "grading/courses/course.py", "recording/surroundings.py",
        "testing/from_numpy.py",
    },
    "a name": {"compiler/cpp_kernel.py", "errors/errors.py"},
    "a module": {
        "checkpoint/file.py", "compiler/inductor/disk_cache.py", "errors/annotations.py",
        "errors/descriptions.py", "interop/torch_nn.py",
        "layers/common/constructors.py", "layers/common/normalisation.py", "notebook/trees.py",
        "recording/surroundings.py", "vocabulary.py",
    },
}  # fmt: skip


# By kind, the code that asks it, of functions, labels and printed names.
QUESTIONS = {
    "unbound": r"\bunbound\b",
    "keywords": r"\.keywords\b|[\"']keywords[\"']",
    "a label": r"\.label (==|!=|in|not in|is)\b|\.label [!=]=|[!=]= \w+\.label\b",
    "a name": r"\.(partition|split)\([\"']\([\"']",
    "a module": r"\.__module__\b|[\"']__module__[\"']",
}


def questions_in(source):
    """Give the kinds of questions that some code asks."""
    return {kind for kind, asked in QUESTIONS.items() if re.search(asked, source)}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("unbound(layer.forward) is relu.forward", "unbound"),
        ("from lincoln_fn.core.layer import unbound", "unbound"),
        ("layer.forward.keywords['dim']", "keywords"),
        ("getattr(layer.forward, 'keywords', {})", "keywords"),
        ("made.label == 'serial'", "a label"),
        ("made.label in ('frozen', 'constant')", "a label"),
        ("layer.name.partition('(')[0] == 'softmax'", "a name"),
        ("function.__module__.startswith('lincoln_fn.layers.')", "a module"),
        ("f'{visit.label}[0]'; layer.name; layer.spec['dim']; relu.forward", None),
    ],
)
def test_a_question_is_found(code, kind):
    assert questions_in(code) == ({kind} if kind else set())


@pytest.mark.full
def test_no_room_asks_what_the_spec_says():
    found = {kind: set() for kind in QUESTIONS}
    for file in LIBRARY.rglob("*.py"):
        place = file.relative_to(LIBRARY).as_posix()
        if not place.startswith("core/"):
            for kind in questions_in(file.read_text()):
                found[kind].add(place)
    assert found == {"unbound": set(), "a label": set(), **OTHERS}
