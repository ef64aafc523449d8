"""Where nothing can be compiled, a step runs as it is, with one warning that says why."""

import warnings

import pytest
import torch
from helpers.children import run_child
from helpers.compiling import compiles

import lincoln_fn as lf
from lincoln_fn.compiler.inductor import compile_graph

pytestmark = pytest.mark.full

TRAIN = """
import warnings, torch, lincoln_fn as lf
net, optimizer, x = lf.dense(2), lf.optim.sgd(0.1), torch.ones(4, 3)
step = lf.make_step(net, lf.losses.mse(), optimizer, donate=True)
state = lf.init_state(net, optimizer, lf.Key(0), x)
wanted, loss = step(lf.tree.map(torch.clone, state, states=True), (x, torch.ones(4, 2)))
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    fast = lf.compile(step)
    new, value = fast(state, (x, torch.ones(4, 2)))
    again, _ = fast(new, (x, torch.ones(4, 2)))
torch.testing.assert_close(value, loss)
print(len(seen), *(w.message for w in seen))
"""


@pytest.mark.parametrize("compiler", ["/nowhere/g++", "false"])
def test_without_a_working_compiler(tmp_path, compiler):
    told = run_child(TRAIN, CXX=compiler, TORCHINDUCTOR_CACHE_DIR=str(tmp_path)).stdout
    assert told.startswith("1 the step runs as it is, without being compiled: with torch")
    assert "CXX" in told


@compiles
def test_what_the_compiler_says_of_code_that_it_does_not_accept_is_told(monkeypatch):
    wrong = {"cpp.enable_floating_point_contract_flag": "off -include /nowhere/header.h"}
    monkeypatch.setattr(compile_graph, "compiler_flags", lambda: wrong)
    step = lf.make_step(lf.dense(2), lf.losses.mse(), lf.optim.sgd(0.1))
    x, target = torch.ones(4, 3), torch.ones(4, 2)
    state = lf.init_state(step.net, step.optimizer, lf.Key(0), x)
    with pytest.warns(UserWarning, match=r"compiler says .*/nowhere/header\.h"):
        _, value = lf.compile(step)(state, (x, target))
    assert value == step(state, (x, target))[1]


@compiles
@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
def test_a_sparse_input_is_refused_by_name(layout):
    net, optimizer, x = lf.dense(2), lf.optim.sgd(0.1), torch.ones(4, 3)
    step = lf.compile(lf.make_step(net, lf.losses.mse(), optimizer))
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    with warnings.catch_warnings():  # once a process, torch says that CSR tensors are new to it
        warnings.simplefilter("ignore")
        sparse = getattr(x, layout)()
    with pytest.raises(lf.LayerError, match=r"dense tensors.*to_dense\(\)"):
        step(state, (sparse, torch.ones(4, 2)))
