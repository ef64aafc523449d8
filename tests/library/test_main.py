"""What `python -m lincoln_fn` prints is there to be tried."""

import re
import subprocess
import sys
import textwrap
from importlib.util import find_spec

from lincoln_fn.__main__ import __doc__ as FIRST


def test_it_prints_without_loading_torch():
    code = (
        "import runpy, sys; before = {*sys.modules};"
        "runpy.run_module('lincoln_fn', run_name='__main__');"
        "assert not {'torch', 'numpy', 'attrs'} & {*sys.modules} - before"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert FIRST in ran.stdout


def test_the_program_trains(capsys):
    program = re.search(r"((?: {4}.*\n|\n)+)", FIRST)
    exec(textwrap.dedent(program[1]), {})
    losses = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 10
    assert losses[-1] < losses[0] / 10


def test_the_commands_exist():
    named = re.findall(r"python -m ([\w.]+)", FIRST)
    assert len(named) == 3
    assert all(find_spec(name) for name in named)
