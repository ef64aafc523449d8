"""Where nothing can be compiled, a step runs as it is, with one warning that says why.

So it does with a torch that has moved a private part that we use.
"""

import ast
import os
import warnings
from pathlib import Path

import pytest
import torch
from helpers import MSE, assert_says, begin, compiles, run_child

import lincoln_fn as lf
from lincoln_fn.compiler.inductor import compile_graph
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

TRAIN = """
import builtins, importlib, os, sys, warnings
import torch, lincoln_fn as lf
from helpers import MSE, assert_same_steps, begin

def train(steps):  # and give what is warned of
    x = torch.ones(4, 3)
    step, state = begin(lf.dense(2), x, MSE, donate=True)
    pure = lf.make_step(lf.dense(2), MSE, step.optimizer)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert_same_steps(lf.compile(step), pure, state, *[(x, torch.ones(4, 2))] * steps)
    return [str(w.message) for w in seen]
"""


@pytest.mark.parametrize("compiler", ["/nowhere/g++", "false"])
def test_without_a_working_compiler(tmp_path, compiler):
    program = f"{TRAIN}\ntold = train(2)\nprint(len(told), *told)"
    told = run_child(program, CXX=compiler, TORCHINDUCTOR_CACHE_DIR=str(tmp_path)).stdout
    assert told.startswith("1 the step runs as it is, without being compiled: with torch")
    assert "CXX" in told


# What the parent does once, the child goes on from: it hides one name, and trains. The parent has
# imported what holds the names, and what torch itself does with them goes on.
HIDING = """
import torch._inductor.compile_fx, torch._inductor.mkldnn_ir

def holder_of(owner):
    try:
        return importlib.import_module(owner)
    except ImportError:  # a module of torch's C++ part
        return getattr(torch._C, owner.rpartition(".")[2])

holders = {name: holder_of(name) for name in {each.rpartition(":")[0] for each in sys.argv[1:]}}

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

for hidden in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            hide(*hidden.rsplit(":", 1))
            told = train(1)
            own = [text for text in told if "runs as it is" in text]
            assert len(own) == 1 and hidden.rsplit(":", 1)[1] in own[0], told
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
    ran = run_child(TRAIN + HIDING, *private_names(), TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert (ran.returncode, ran.stdout) == (0, ""), ran


@compiles
def test_what_the_compiler_says_of_code_that_it_does_not_accept_is_told(monkeypatch):
    wrong = {"cpp.enable_floating_point_contract_flag": "off -include /nowhere/header.h"}
    monkeypatch.setattr(compile_graph, "compiler_flags", lambda: wrong)
    x, target = torch.ones(4, 3), torch.ones(4, 2)
    step, state = begin(lf.dense(2), x, MSE)
    with pytest.warns(UserWarning, match=r"compiler says .*/nowhere/header\.h"):
        _, value = lf.compile(step)(state, (x, target))
    assert value == step(state, (x, target))[1]


@compiles
@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
def test_a_sparse_input_is_refused_by_name(layout):
    x = torch.ones(4, 3)
    step, state = begin(lf.dense(2), x, MSE)
    with warnings.catch_warnings():  # once a process, torch says that CSR tensors are new to it
        warnings.simplefilter("ignore")
        sparse = getattr(x, layout)()
    batch = sparse, torch.ones(4, 2)
    assert_says("dense tensors ... to_dense()", lf.compile(step), state, batch)
