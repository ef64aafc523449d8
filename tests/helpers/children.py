"""Programs in processes of their own, each a copy of one that has imported the library once."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import lincoln_fn as lf


def context():
    """Give the means to start processes that are copies, of one that has only imported."""
    # The face alone imports nothing, and each copy would import torch for itself: 1.4 s.
    forks = get_context("forkserver")
    public = (getattr(getattr(lf, name), "__module__", "torch") for name in lf.__all__)
    forks.set_forkserver_preload([*dict.fromkeys(public)])
    return forks


@contextmanager
def started(function, *arguments):
    """Call function(pipe, *arguments) in a process; give the process and our end of the pipe."""
    ours, its = context().Pipe()
    process = context().Process(target=function, args=(its, *arguments), daemon=True)
    process.start()
    its.close()
    try:
        with ours:
            yield process, ours
    finally:
        process.kill()
        process.join()


def _main(program, arguments, environment, folder):
    os.environ.clear()
    os.environ.update(environment)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT), stream)
    sys.argv[1:] = arguments
    exec(program, {"__name__": "__main__"})


def run_child(program, *arguments, **environment):
    """Run a program's code to its end: its exit code, and what it has printed.

    Args:
        program: its code.
        arguments: sys.argv[1:].
        environment: variables that differ from those of this process.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = (program, [*map(str, arguments)], {**os.environ, **environment}, folder)
        process = context().Process(target=_main, args=given)
        process.start()
        process.join(300)
        process.kill()  # which a program that hangs needs
        said = [Path(folder, name).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(program, process.exitcode, *said)


def printed_by_child(program, *arguments, **environment):
    """Run a program that is to end well and to warn of nothing, and give what it prints."""
    ran = run_child(program, *arguments, **environment)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout


FORKS = """
import json, os, sys
import torch, lincoln_fn as lf

for program, *arguments in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        sys.argv[1:] = arguments
        exec(program, {})
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print("end", flush=True)
"""


def printed_by_children(runs):
    """List what programs print that measure their memory, each given as code and arguments.

    They are copies of a process that has done nothing else.
    """
    command = [sys.executable, "-c", FORKS, json.dumps(runs)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    *told, _ = ran.stdout.split("end\n")
    return told
