"""The places in which something new is added: a layer, a combinator, a loss, an optimizer.

Each is a copy of one that is there, under another name. It is written into a copy of the library in
the places listed here and in no other. Then the tests that demand a row of everything must pass.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
SOURCE = "src/lincoln_fn"


@attrs.frozen
class Addition:
    """What is added: the name of its model, its own, and the places, each a file and the row.

    The row of the model is the first line that has its name, or what the place gives behind the
    file. It is copied behind itself, with the new name, unless the place gives the new row, too.
    """

    model: str
    name: str
    home: str
    rows: tuple[tuple[str, ...], ...]

    def write(self, root):
        """Write it into a copy of the library; count the lines that are not blank."""
        home = root / SOURCE / self.home
        source = self.renamed((home / f"{self.model}.py").read_text())
        (home / f"{self.name}.py").write_text(source)
        for file, *given in self.rows:
            path = root / file
            text = path.read_text()
            row = given[0] if given else re.search(rf".*(?<!\w){self.model}(?!\w).*\n", text)[0]
            assert row in text, (file, row)
            path.write_text(text.replace(row, row + self.renamed(given[-1] if given else row), 1))
        return sum(map(bool, source.split("\n"))) + len(self.rows)

    def renamed(self, text):
        return re.sub(rf"(?<!\w){self.model}(?!\w)", self.name, text)


# By model: how many places the page says, and how many lines at most.
SAID = {
    model: (int(places), int(lines))
    for places, model, lines in re.findall(
        r"\| (\d+): [^|]+ \| `(\w+)` \| (\d+) \|", (ROOT / "docs/adding.md").read_text()
    )
}
FACE, CASES = f"{SOURCE}/__init__.pyi", "tests/helpers/cases"
TORCH_NN = f"{SOURCE}/interop/torch_nn.py", "    nn.Linear: same(ours.dense),\n"
ADDITIONS = (
    Addition("softsign", "gentle_sign", "layers", (
        (FACE,), (f"{CASES}/activations.py",),
        (*TORCH_NN, "    nn.Softsign: same(ours.softsign),\n"))),
    Addition("prelu", "gentle_slope", "layers", (
        (FACE,), (f"{CASES}/activations.py",), (*TORCH_NN, "    nn.PReLU: same(ours.prelu),\n"),
        (f"{SOURCE}/interop/names.py",))),
    Addition("shared", "gently_shared", "combine", (
        (FACE, "from lincoln_fn.layers.relu import relu as relu\n",
            "from lincoln_fn.combine.shared import shared as shared\n"),
        (f"{CASES}/combinators.py", "CASES = [\n",
            "    Case(lf.shared(BLOCK), (normal(5, 3), normal(2, 3, seed=1))),\n"))),
    Addition("mse", "gentle_square", "losses", (
        (f"{SOURCE}/losses/__init__.pyi",), ("tests/helpers/losses.py",))),
    Addition("rprop", "gentle_steps", "optim", (
        (f"{SOURCE}/optim/__init__.pyi",), ("tests/helpers/optimizers.py",),
        ("docs/reference/index.md", "::: lincoln_fn.optim.rprop.rprop\n"))),
    Addition("mixtral", "gentle_experts", "interop/architectures", (
        ("tests/interop/test_pretrained.py",),)),
)  # fmt: skip
# The tests that demand a row of everything, and those of the rows that were added.
TABLES = (
    "one_picture or "
    "in_the_table or one_family or every_constructor or rows_above or "
    "lists_every_optimizer or its_place or sweep or every_name"
)
FILES = (
    "layers/test_layers.py",
    "interop/test_modules.py",
    "interop/test_pretrained.py",
    "interop/test_state_dict.py",
    "repository/test_docs.py",
    "repository/test_fuzz.py",
    "core/test_constructors.py",
    "library/test_tables.py",
    "losses/test_table.py",
    "optim/test_optimizers.py",
    "attribution/test_attribution.py",
    "per_example/test_per_example.py",
    "grading/test_grade_assignment.py",
)


def test_everything_is_added_in_few_places(tmp_path):
    for part in ("src", "tests", "docs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "mkdocs.yml", "README.md"):
        shutil.copy(ROOT / part, tmp_path / part)
    for addition in ADDITIONS:
        lines = addition.write(tmp_path)
        places = 1 + len({row[0] for row in addition.rows})
        print(f"{addition.name}, as {addition.model}: {places} places, {lines} lines")
        assert places == SAID[addition.model][0], addition
        assert lines <= SAID[addition.model][1], (addition, lines)
    names = " or ".join(addition.name for addition in ADDITIONS)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider"]
        + [f"tests/{file}" for file in FILES]
        + ["-k", f"({names} or Softsign or PReLU or {TABLES}) and not is_drawn"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", ran.stdout)[1]) >= 30
