"""The compiler's rooms: what each may import, and who may touch torch's private parts."""

import ast
from pathlib import Path

import pytest

import lincoln_fn

LIBRARY = Path(lincoln_fn.__file__).parent
COMPILER = LIBRARY / "compiler"
PRIVATE = ("torch._inductor", "torch._C", "torch._dynamo")


def named_in(source):
    """Give the dotted names in some code: what it imports, and attributes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node)
        # A name that is looked up by its text.
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def is_below(name, rooms):
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def naming(folder, rooms):
    """List the files in a folder that name what is in some rooms, with the names."""
    return {
        f"{file.relative_to(LIBRARY)}: {name}"
        for file in folder.rglob("*.py")
        for name in named_in(file.read_text())
        if is_below(name, rooms)
    }


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
    assert any(is_below(name, PRIVATE) for name in named_in(code))


def test_torchs_private_parts_are_touched_in_one_room():
    found = naming(LIBRARY, PRIVATE)
    inside = {line for line in found if line.startswith("compiler/inductor/")}
    assert found - inside == set()
    for part in PRIVATE[:2]:
        assert any(f": {part}" in line for line in inside), part


@pytest.mark.parametrize("room", ["kernels", "trace"])
def test_kernels_and_traces_know_nothing_of_what_uses_them(room):
    users = ["passes", "pipeline", "graphs", "step", "prediction", "function", "compile", "export"]
    above = [f"lincoln_fn.compiler.{user}" for user in users]
    assert len([*(COMPILER / room).rglob("*.py")]) > 3
    assert naming(COMPILER / room, above) == set()


def test_each_file_in_cpp_has_its_operation_beside_it():
    files = [*COMPILER.rglob("*.cpp")]
    assert len(files) >= 6
    for file in files:
        operation = file.with_name("op.py").read_text()
        assert f'"{file.stem}(' in operation, file
