"""A torch that has moved a private part that we use gives slower steps and one warning."""

import ast
import os
from pathlib import Path

import pytest
from helpers.children import run_child
from helpers.compiling import compiles

import lincoln_fn as lf
from lincoln_fn.compiler.inductor.settings import IS_KNOWN

pytestmark = pytest.mark.full

ROOM = Path(lf.__file__).parent / "compiler" / "inductor"
PRIVATE = ("torch._inductor", "torch._C", "torch._dynamo")

# What torch itself cannot trace without.
OF_TRACING = {
    "torch._C:_aoti",
    "torch._C:_dynamo",
    "torch._C._dynamo:guards",
    "torch._inductor.runtime.cache_dir_utils:cache_dir",
}

# What the parent does once, the child goes on from: it hides one name, and trains. The parent has
# imported what holds the names, and what torch itself does with them goes on.
TRAIN = """
import builtins, importlib, os, sys, warnings
import torch, lincoln_fn as lf
import torch._inductor.compile_fx, torch._inductor.mkldnn_ir

def holder_of(owner):
    try:
        return importlib.import_module(owner)
    except ImportError:  # a module of torch's C++ part
        return getattr(torch._C, owner.rpartition(".")[2])

holders = {owner: holder_of(owner) for owner in {name.rpartition(":")[0] for name in sys.argv[1:]}}

def hide(owner, name, given=builtins.__import__):
    def without(module, globals=None, locals=None, fromlist=(), level=0):
        ours = str((globals or {}).get("__package__")).startswith("lincoln_fn")
        if ours and module == owner and name in (fromlist or ()):
            raise ImportError(f"no {name}")
        return given(module, globals, locals, fromlist, level)

    if f"{owner}.{name}" in sys.modules:  # a module, which torch itself imports at every step
        builtins.__import__ = without
    else:
        delattr(holders[owner], name)

def train(owner, name):
    hide(owner, name)
    net, optimizer, x, target = lf.dense(2), lf.optim.sgd(0.1), torch.ones(4, 3), torch.ones(4, 2)
    step = lf.make_step(net, lf.losses.mse(), optimizer, donate=True)
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    wanted, loss = step(lf.tree.map(torch.clone, state, states=True), (x, target))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        new, value = lf.compile(step)(state, (x, target))
    torch.testing.assert_close(value, loss)
    torch.testing.assert_close(new.params.weight, wanted.params.weight)
    told = [str(w.message) for w in seen if "runs as it is" in str(w.message)]
    assert len(told) == 1 and name in told[0], (name, [str(w.message) for w in seen])

for hidden in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            train(*hidden.rsplit(":", 1))
        except BaseException as error:
            print(hidden, repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    os.waitpid(child, 0)
"""


# What a torch is not asked for with which it has not been tried.
UNTRIED = () if IS_KNOWN else ("build.py", "disk_cache.py", "lowering.py")


def private_names():
    """List the private names that the room imports or reaches, each as owner:name."""
    names = set()
    for path in {*ROOM.glob("*.py")} - {ROOM / name for name in UNTRIED}:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PRIVATE):
                names |= {f"{node.module}:{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Attribute):
                owner = ast.unparse(node.value)
                if owner.startswith("torch._C"):
                    names.add(f"{owner}:{node.attr}")
    return sorted(names - OF_TRACING)


def test_the_names_are_found():
    names = private_names()
    assert "torch._inductor.compile_fx:compile_fx_inner" in names
    assert ("torch._C._aoti:unsafe_alloc_void_ptrs_from_tensors" in names) is IS_KNOWN
    assert len(names) > (10 if IS_KNOWN else 4)


@compiles
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a child is forked for each name")
def test_a_name_that_is_gone_costs_the_compilation_and_no_more(tmp_path):
    ran = run_child(TRAIN, *private_names(), TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert (ran.returncode, ran.stdout) == (0, ""), ran
