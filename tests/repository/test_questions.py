"""What a layer is stands in its spec and its traits: no room wins it back by names or bindings."""

import ast
from pathlib import Path

import pytest

import lincoln_fn

LIBRARY = Path(lincoln_fn.__file__).parent
# Files that ask something else: of operations of torch, of syntax trees, of what code refers to, of
# classes that are not layers.
OTHERS = {
    "keywords": {
        "grading/handouts.py", "grading/courses/course.py", "recording/surroundings.py",
        "testing/from_numpy.py",
    },
    "a name": {"compiler/cpp_kernel.py", "errors/errors.py"},
    "a module": {
        "checkpoint/description.py", "compiler/inductor/disk_cache.py", "errors/annotations.py",
        "errors/descriptions.py", "interop/conversions.py", "interop/torch_nn.py",
        "layers/common/constructors.py", "layers/common/normalisation.py", "notebook/trees.py",
        "recording/surroundings.py", "vocabulary.py",
    },
}  # fmt: skip


def is_text(node, text):
    return isinstance(node, ast.Constant) and node.value == text


def is_attribute(node, *names):
    return isinstance(node, ast.Attribute) and node.attr in names


def questions_in(source):
    """Give the kinds of questions that some code asks of functions, labels and printed names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name | ast.alias):
            if "unbound" in (getattr(node, "id", ""), getattr(node, "name", "")):
                yield "unbound"
        elif is_attribute(node, "keywords") or is_text(node, "keywords"):
            yield "keywords"
        elif is_attribute(node, "__module__") or is_text(node, "__module__"):
            yield "a module"
        elif isinstance(node, ast.Call):
            is_split = is_attribute(node.func, "partition", "split")
            if is_split and any(is_text(argument, "(") for argument in node.args):
                yield "a name"
        elif isinstance(node, ast.Compare):
            sides = (node.left, *node.comparators)
            yield from ["a label"] * any(is_attribute(side, "label") for side in sides)


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
    assert next(questions_in(code), None) == kind


@pytest.mark.full
def test_no_room_asks_what_the_spec_says():
    found = {kind: set() for kind in ("unbound", "a label", *OTHERS)}
    for file in LIBRARY.rglob("*.py"):
        place = file.relative_to(LIBRARY).as_posix()
        if not place.startswith("core/"):
            for kind in questions_in(file.read_text()):
                found[kind].add(place)
    assert found == {"unbound": set(), "a label": set(), **OTHERS}
