"""A new activation takes four places: its file, the export, a row of cases, a row of interop's."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAME = "gentle_sign"  # softsign under another name


def replaced(path, old, new):
    text = path.read_text()
    assert old in text, (path, old)
    path.write_text(text.replace(old, new, 1))


def test_an_activation_is_added_in_four_places_and_sixty_lines(tmp_path):
    for part in ("src", "tests", "docs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "mkdocs.yml", "README.md"):
        shutil.copy(ROOT / part, tmp_path / part)
    package = tmp_path / "src" / "lincoln_fn"

    source = re.sub("softsign", NAME, (package / "layers" / "softsign.py").read_text())
    (package / "layers" / f"{NAME}.py").write_text(source)
    export = "from lincoln_fn.layers.softsign import softsign as softsign\n"
    replaced(package / "__init__.py", export, export + export.replace("softsign", NAME))
    case = "    Case(lf.softsign(), WIDE, by_module(nn.Softsign())),\n"
    cases = tmp_path / "tests" / "cases" / "activations.py"
    replaced(cases, case, case + case.replace("softsign", NAME))
    row = "    nn.Softsign: _by(ours.softsign),\n"
    replaced(package / "interop" / "torch_nn.py", row, row.replace("softsign", NAME))

    assert source.count("\n") + 3 <= 60
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider"]
        + [f"tests/test_{name}.py" for name in ("layers", "interop_modules", "docs")]
        + ["-k", f"{NAME} or Softsign or in_the_table or one_family or every_page"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", ran.stdout)[1]) >= 6
