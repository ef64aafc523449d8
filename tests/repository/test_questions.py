"""What a layer is stands in its spec and its traits: no room wins it back by names or bindings."""

import re
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
