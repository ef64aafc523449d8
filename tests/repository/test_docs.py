"""The documentation says what is so: its code runs, its output is shown, no layer is missing.

The pages of the layers and losses are written from their files, `docs/_tools/source_pages.py`.

The blocks of a page run in order and share their names. A block of `python` runs as a program; a
block of `text` right behind it is what it prints. A block of `pycon` is a session: each line that
begins with `>>>` is followed by what it says.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import types
from functools import cache
from pathlib import Path

import gallery
import jacobians
import pytest
import reference
import source_pages
import torch
from helpers import names_of, same_number
from helpers.cases import activations
from helpers.pages import BLOCK, run_in_fresh_process
from sections import ARGUMENTS, completed, facts_of, functions
from source_files import MADE, SOURCE, paths, read

import lincoln_fn as lf
from lincoln_fn.core.signatures import unbound
from lincoln_fn.plots.derivatives import jacobian_matrix

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text())]
README = DOCS.parent / "README.md"
SESSION = re.compile(r"^ *(?:>>>|\.\.\.) .*$", flags=re.MULTILINE)
DRAWS = re.compile(r"torch\.(rand|normal|bernoulli|multinomial)\w*\b|\b(np|numpy)\.random\b")
LAYERS = [m.name for m in pkgutil.iter_modules(lf.layers.__path__) if not m.ispkg]
PATHS = [path for package in MADE for path in paths(package)]  # of the pages that are made
made_page = cache(source_pages.page)


def read_page(name):
    return (DOCS / f"{name}.md").read_text()


@cache
def referenced():
    """List what the pages show by its docstring."""
    written = (source_pages.references(page.read_text()) for page in PAGES)
    pages = [*written, *map(made_page, PATHS)]
    return re.findall(r"^::: ([\w.]+)$", "\n".join(pages), re.MULTILINE)


# Rooms that users import, and the root does not name.
ROOMS = ("estimators", "finetune", "decoding", "compiler", "errors", "grading")
FOLDERS = {m.name for m in pkgutil.iter_modules(lf.__path__)}
PACKAGES = [
    "lincoln_fn",
    *(f"lincoln_fn.{name}" for name in sorted(FOLDERS & {*lf.__all__, *ROOMS})),
]


@pytest.mark.full
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_code_of_a_page_runs_and_says_what_is_shown(page, tmp_path):
    run_in_fresh_process(page, tmp_path / "a")


@pytest.mark.full
@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("torch.rand(2)", "torch draws without a seed"),
        ("torch.nn.Linear(2, 3); torch.manual_seed(0)", "torch draws without a seed"),
        ("print(2)", "prints 2"),
    ],
)
def test_a_page_whose_code_depends_on_chance_is_refused(code, problem, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"```python\nimport torch\n\n{code}\n```\n")
    with pytest.raises(AssertionError, match=problem):
        run_in_fresh_process(page, tmp_path / "a")


def test_no_page_draws_from_a_generator_without_a_seed():
    code = {
        page: "".join(block["code"] for block in BLOCK.finditer(page.read_text()))
        for page in [*PAGES, README]
    }
    unseeded = {page: text.partition("torch.manual_seed(")[0] for page, text in code.items()}
    assert not [page for page, text in unseeded.items() if DRAWS.search(text)]


def test_no_example_of_a_docstring_draws_from_a_generator_without_a_seed():
    code = [text for path in SOURCE.rglob("*.py") for text in SESSION.findall(path.read_text())]
    assert len(code) > 1000
    assert not list(filter(DRAWS.search, code))


def test_every_block_of_output_belongs_to_a_program():
    for page in PAGES:
        text = page.read_text()
        outputs = [block for block in BLOCK.finditer(text) if block["output"] is not None]
        assert len(outputs) == len(re.findall(r"^ *```text$", text, flags=re.MULTILINE)), page


DOORS = ("is-my-backward-right", "learn", "own-the-backward-pass", "train-on-a-cpu")


def test_there_are_at_most_ninety_pages():
    assert len(PAGES) <= 90


def test_the_navigation_is_four_doors_and_a_reference():
    nav = (DOCS.parent / "mkdocs.yml").read_text().partition("\nnav:")[2]
    first = re.findall(r"^  - [^:]+:(?: (\S+)|\n      - (\S+))$", nav, re.MULTILINE)
    places = ["index.md", *(f"{door}.md" for door in DOORS), "reference/index.md"]
    assert ["".join(found) for found in first] == places


@pytest.mark.parametrize("door", DOORS)
def test_a_door_begins_with_code_and_ends_at_a_picture_or_a_number(door):
    text = (DOCS / f"{door}.md").read_text()
    begin = text.partition("\n# ")[2]
    assert begin.splitlines().index("```python") < 10
    assert re.match(r"<!-- (quoted|curve): .* -->$|!\[", text.splitlines()[-1])


def test_a_figure_of_the_first_pages_stands_where_it_was_measured():
    first = {"README": README.read_text(), "index": read_page("index")}
    (times,) = re.findall(r"^\| SGD: fastest peer \| (.*) \|$", read_page("speed"), re.MULTILINE)
    times = [float(time) for time in times.split(" | ")]
    found = re.compile(r"^\| .*check.* \| (\d+) of 50 \| 50 of 50 \|$", re.MULTILINE)
    bugs = found.findall(read_page("fifty-public-bugs"))
    found = re.compile(r"^\| (?:gradient|RelP) \|.* (\S+) \|$", re.MULTILINE)
    streams = found.findall(read_page("research"))
    assert len(bugs) == len(streams) == 2
    for text in first.values():
        assert f"tep takes {min(times)} to {max(times)} of the fastest peer's time" in text
        assert f"{bugs[0]} of 50 public" in text
        assert "ight notebooks" in text
    assert f"`gradcheck` finds {bugs[1]}" in first["README"]
    assert all(number in first["README"] for number in streams)
    assert len(list((DOCS.parent / "examples/notebooks").glob("*.py"))) == 8


def test_no_two_pages_write_into_the_same_folder():
    folders = {
        page: set(re.findall(r'(?:Directory\(|trained\(.*)"(\w+)"', page.read_text()))
        for page in PAGES
    }
    used = [folder for each in folders.values() for folder in each]
    assert len(used) == len({*used}) > 3


FAULTS = re.findall(
    r"`pytest (?:--full )?(\S+)(?: -k (.*?))?`", (DOCS / "guides/faults.md").read_text()
)


@pytest.mark.parametrize(("path", "words"), FAULTS)
def test_a_row_of_the_page_on_faults_names_tests_that_exist(path, words):
    place = DOCS.parent / path
    files = [place] if place.is_file() else sorted(place.glob("test_*.py"))
    names = re.findall(r"^def (test_\w+)", "".join(file.read_text() for file in files), re.M)
    assert names
    for word in words.strip('"').split(" or ") if words else ():
        assert any(word in name for name in names), word


def test_a_file_says_what_it_is_how_it_is_derived_and_what_it_keeps():
    for path in PATHS:
        module = importlib.import_module(f"lincoln_fn.{path.replace('/', '.')}")
        summary, *rest = module.__doc__.split("\n\n")
        assert summary.endswith((".", ":")), path
        assert sum(paragraph.startswith("Derivation.") for paragraph in rest) == 1, path
        assert sum(paragraph.startswith("Cache: ") for paragraph in rest) == 1, path
        assert any(paragraph.is_formulas for paragraph in read(path).docstring), path


@pytest.mark.full
def test_a_page_has_the_derivation_the_code_and_the_constructors():
    for path in PATHS:
        text = made_page(path)
        assert text.startswith(f"# {path.partition('/')[2]}\n")
        headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert [h.rstrip("s") for h in headings] == ["Derivation", "Code", "Constructor"], path
        for function in ("forward", "backward"):
            shown = rf"^(def {function}\(|From \[\w+\]\(\w+\.md\):.*`{function}`)"
            assert re.search(shown, text, re.MULTILINE), path
    for path in ("layers/rnn", "layers/gru", "layers/lstm"):  # the loop over the sequence, shared
        assert "def scan(" in made_page(path)
        assert "def scan_backward(" in made_page(path)


@pytest.mark.parametrize(("package", "home"), [("layers", lf), ("losses", lf.losses)])
def test_every_constructor_has_its_place_and_an_example(package, home):
    things = names_of(home)
    made = [
        f"{thing.__module__}.{name}"
        for name, thing in things.items()
        if getattr(thing, "__module__", "").startswith(f"lincoln_fn.{package}.")
        and isinstance(thing, types.FunctionType)
    ]
    modules = {path.rpartition(".")[0] for path in made}
    assert sorted(p for p in referenced() if p.rpartition(".")[0] in modules) == sorted(made)
    for path in made:
        says = things[path.rpartition(".")[2]].__doc__
        other = re.search(r"as `(\w+)` does", says)  # zero_pad1d pads as zero_pad2d does
        assert ">>>" in (things[other[1]].__doc__ if other else says), path


def test_every_layer_is_in_one_family_and_the_activations_are_those_of_the_tests():
    families = source_pages.by_family()
    assert sorted(name for names in families.values() for name in names) == LAYERS
    layers = [case.layer for case in activations.CASES]
    forwards = [unbound(layer.forward) for layer in layers]
    tested = {forward.__module__.rpartition(".")[2] for forward in forwards}
    assert set(families["Activations"]) == tested


def test_the_page_of_every_layer_has_one_picture():
    without = {path for path in PATHS if made_page(path).count('<svg class="curves"') != 1}
    losses = {path for path in PATHS if path.startswith("losses/")}
    assert without == losses | {"layers/embedding"}  # whose x, integers, has no gradient


@pytest.mark.parametrize("name", jacobians.EXAMPLES)
def test_a_jacobian_on_a_page_is_that_of_its_own_layer(name):
    layer, _ = jacobians.EXAMPLES[name]
    forward = unbound(layer.forward)
    assert layer.parts or forward.__module__ == f"lincoln_fn.layers.{name}"
    assert f"lf.{layer.name}" in made_page(f"layers/{name}")


def test_the_squares_of_a_jacobian_are_its_numbers():
    drawn = jacobians.picture("glu")
    layer, x = jacobians.EXAMPLES["glu"]
    _, matrix = jacobian_matrix(layer, (), x)
    squares = re.findall(r'<path class="(above|below)" opacity="([\d.]+)" d="([^"]*)"', drawn)
    found = torch.zeros(matrix.shape)
    for sign, opacity, places in squares:
        for x, y in re.findall(r"M(\d+) (\d+)h", places):
            row, column = ((int(at) - jacobians.MARGIN) // jacobians.CELL for at in (y, x))
            found[row, column] = float(opacity) * (1 if sign == "above" else -1)
    error = 0.5 / jacobians.LEVELS + 0.01  # by which the opacities are rounded
    assert same_number(found, matrix / matrix.abs().max(), error=error)


def test_the_gallery_shows_every_picture_once():
    text = "\n".join(page.read_text() for page in PAGES)
    assert re.findall(r"^<!-- picture: (\w+) -->$", text, re.MULTILINE) == list(gallery.DRAWN)


@pytest.mark.full
@pytest.mark.parametrize("name", gallery.DRAWN)
def test_a_picture_is_drawn_the_same_each_time_and_leaves_torch_as_it_was(name):
    threads = torch.get_num_threads()
    drawn = gallery.picture(name)
    assert drawn == gallery.picture(name)
    assert drawn.startswith('<svg class="curves" viewBox="0 0 ')
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("losses/log_loss", "BCELoss"),
        ("losses/softmax_cross_entropy", "CrossEntropyLoss"),
        ("layers/dense", "Linear"),
        ("layers/conv", "Conv1d, Conv2d, Conv3d"),
        ("layers/add", None),
    ],
)
def test_a_page_is_found_by_torchs_name(path, expected):
    tags = source_pages.tags(path)
    tagged = f"tags: [{expected}]\n" if expected else ""
    assert tags == f"---\nhide: [toc]\n{tagged}---\n\n"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_its_place_in_the_reference(package):
    module = importlib.import_module(package)
    missing = [
        name
        for name, thing in names_of(module).items()
        if not inspect.ismodule(thing)
        and getattr(thing, "__module__", "").startswith("lincoln_fn")
        and getattr(thing, "__module__", None) not in referenced()
        and not any(path.endswith(f".{name}") for path in referenced())
    ]
    assert not missing


def test_what_a_page_shows_by_its_docstring_is_there():
    assert all(pkgutil.resolve_name(path) is not None for path in referenced())


def test_each_group_of_the_reference_is_a_page_with_its_names():
    listed, pages = read_page("reference/index"), reference.pages()
    shown = re.findall(r"^::: (.+)$", "\n".join(pages.values()), re.MULTILINE)
    assert len(shown) == len({*shown}) > 350
    assert shown == re.findall(r"^::: (.+)$", source_pages.references(listed), re.MULTILINE)
    assert all(re.match(r"# \w", text) for text in pages.values())
    rows = re.findall(
        r"^\| \[.*\]\((\S+)\.md\) \| (.+) \|$", reference.contents(listed), re.MULTILINE
    )
    assert [name for name, _ in rows] == [*pages]
    linked = re.findall(r"\]\[([\w.]+)\]", "".join(links for _, links in rows))
    assert "lincoln_fn.core.keys.normal" in linked  # of a file that is shown whole
    assert len(linked) == len({*linked}) > len(shown)


def functions_on_pages():
    """Yield the public functions and methods whose docstrings a page shows: file, name, code."""
    for path in sorted(set(referenced())):
        parts = path.split(".")[1:]
        is_file = SOURCE.joinpath(*parts).with_suffix(".py").is_file()
        file = SOURCE.joinpath(*parts if is_file else parts[:-1]).with_suffix(".py")
        for name, node in functions(file).items() if file.is_file() else ():
            is_shown = is_file or name.partition(".")[0] == parts[-1]
            if is_shown and not re.search(r"(^|\.)_", name) and ast.get_docstring(node):
                yield file, name, node


@pytest.mark.full
def test_a_page_says_what_a_function_takes_what_it_returns_and_what_it_raises():
    count, known = 0, set()
    for file, name, node in functions_on_pages():
        facts = facts_of(node, file)
        text = completed(ast.get_docstring(node), facts)
        sections = re.findall(r"^(\w+):$", text, re.M)
        count += 1
        entries = ((key, f"    {key[0]}: {ARGUMENTS.get(key)}") for key in facts.parameters.items())
        known |= {key for key, entry in entries if entry in text}
        if text.startswith("As `"):  # a sibling's
            continue
        assert not facts.returns or {"Returns", "Yields"} & {*sections}, (file, name)
        assert not (facts.is_checked and facts.parameters) or "Raises" in sections, (file, name)
    assert count > 500
    assert known == ARGUMENTS.keys()


PLACES = re.findall(r"`([a-z_]+/[\w/]+\.py)`((?:,? `\w+`)*)", (DOCS / "core.md").read_text())


@pytest.mark.parametrize(("file", "names"), PLACES)
def test_a_place_that_the_page_on_the_core_names_is_there(file, names):
    source = (SOURCE / file).read_text()
    for name in re.findall(r"\w+", names):
        assert re.search(rf"^ *(def|class) {name}\b", source, re.M), name
