"""The documentation says what is so: its code runs, its output is shown, no layer is missing.

The blocks of a page run in order and share their names. A block of `python` runs as a program; a
block of `text` right behind it is what it prints. A block of `pycon` is a session: each line that
begins with `>>>` is followed by what it says.
"""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
import sys
import textwrap
import types
from pathlib import Path

import pytest
import torch

import lincoln_fn as lf

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<kind>python|pycon)\n(?P<code>.*?)^(?P=indent)```\n"
    r"(?:\n(?P=indent)```text\n(?P<output>.*?)^(?P=indent)```\n)?",
    flags=re.DOTALL | re.MULTILINE,
)
REFERENCE = set(
    re.findall(r"^::: ([\w.]+)$", "\n".join(p.read_text() for p in PAGES), re.MULTILINE)
)
PACKAGES = [
    "lincoln_fn",
    *(f"lincoln_fn.{m.name}" for m in pkgutil.iter_modules(lf.__path__) if m.ispkg),
]
LAYERS = [m.name for m in pkgutil.iter_modules(lf.layers.__path__) if not m.name.startswith("_")]


def layer_page(name):
    return (DOCS / "layers" / f"{name}.md").read_text()


def run_program(code, names, where):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, where, "exec"), names)
    return said.getvalue()


def run_session(code, names, where):
    test = doctest.DocTestParser().get_doctest(code, {}, where, where, 0)
    test.globs = names
    runner, told = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), io.StringIO()
    runner.run(test, out=told.write, clear_globs=False)
    assert not runner.failures, told.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_code_of_a_page_runs_and_says_what_is_shown(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    # A module of its own, where decorators of classes look up names.
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in BLOCK.finditer(page.read_text()):
        code, output = (textwrap.dedent(block[part] or "") for part in ("code", "output"))
        if block["kind"] == "pycon":
            run_session(code, vars(module), str(page))
        else:
            assert run_program(code, vars(module), str(page)).rstrip() == output.rstrip()


def test_every_block_of_output_belongs_to_a_program():
    for page in PAGES:
        text = page.read_text()
        outputs = [block for block in BLOCK.finditer(text) if block["output"] is not None]
        assert len(outputs) == len(re.findall(r"^ *```text$", text, flags=re.MULTILINE)), page


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_a_page_with_its_derivation_its_code_and_its_reference(name):
    text = layer_page(name)
    assert text.startswith(f"# {name}\n")
    derivation = text.partition("## Derivation\n")[2].partition("\n## ")[0]
    assert "$" in derivation
    assert "**Cache:**" in text
    assert "```python\n" in text
    assert f"::: lincoln_fn.layers.{name}\n" in text


def test_every_constructor_of_a_layer_is_on_one_page():
    documented = [
        found
        for name in LAYERS
        for found in re.findall(r"::: lincoln_fn\.nn\.(\w+)", layer_page(name))
    ]
    assert sorted(documented) == sorted(lf.nn.__all__)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_its_place_in_the_reference(package):
    module = importlib.import_module(package)
    named = [(name, getattr(module, name)) for name in module.__all__]
    missing = [
        name
        for name, thing in named
        if not isinstance(thing, types.ModuleType)
        and getattr(thing, "__module__", None) not in REFERENCE
        and not any(path.endswith(f".{name}") for path in REFERENCE)
    ]
    assert not missing
