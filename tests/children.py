"""Programs in processes of their own, which one process forks that has imported torch once."""

import json
import subprocess
import sys

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
    """List what programs print, each given as its code and its arguments."""
    command = [sys.executable, "-c", FORKS, json.dumps(runs)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    *told, _ = ran.stdout.split("end\n")
    return told
