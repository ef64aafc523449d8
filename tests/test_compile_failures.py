"""Where nothing can be compiled, a step runs as it is, with one warning that says why."""

import subprocess
import sys
import warnings

import pytest
import torch
from test_compile import compiles

import lincoln_fn as lf

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


def trained(**environment):
    ran = subprocess.run(
        [sys.executable, "-c", TRAIN], capture_output=True, text=True, check=False, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture
def environment(tmp_path, monkeypatch):
    import os

    return {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}


@pytest.mark.parametrize("compiler", ["/nowhere/g++", "false"])
def test_without_a_working_compiler(environment, compiler):
    told = trained(**{**environment, "CXX": compiler})
    assert told.startswith("1 the step runs as it is, without being compiled: with torch")
    assert "CXX" in told


@compiles
def test_in_a_folder_with_a_space_in_its_path(environment, tmp_path):
    told = trained(**{**environment, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "my cache")})
    assert told.startswith("1 compiled steps are not kept on disk, for the path"), told
    assert "has a space" in told


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
