"""Inductor writes the loops into its own code, and calls nothing by way of Python for them."""

from pathlib import Path

import pytest
import torch
from helpers import MSE, begin, drawn, same_number
from helpers.compiling import assert_compiles, compiles, since_2_13
from torch._dynamo.utils import counters
from torch._inductor.utils import fresh_cache
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv

import lincoln_fn as lf
from lincoln_fn.compiler import cpp_kernel
from lincoln_fn.compiler.cpp_kernel import CppKernel
from lincoln_fn.compiler.inductor import compile_graph, lowering
from lincoln_fn.compiler.inductor.compile_graph import by_inductor
from lincoln_fn.compiler.inductor.settings import lanes
from lincoln_fn.compiler.passes import product_updates as product_update
from lincoln_fn.compiler.passes import products

pytestmark = [pytest.mark.full, compiles, since_2_13, pytest.mark.usefixtures("needs_vectors")]


@pytest.fixture
def written(monkeypatch):
    """Collect the names of the loops that are written, and let Python call none."""
    names = []

    def fail(*given):
        raise AssertionError("called by way of Python")

    code = CppKernel.code

    def noted(self, given, function):
        if function != self.name:  # by which code is looked up
            names.append(self.name)
        return code(self, given, function)

    with fresh_cache():
        monkeypatch.setattr(CppKernel, "__call__", fail)
        monkeypatch.setattr(CppKernel, "code", noted)
        yield names


def convolutional():
    return lf.conv2d(2 * lanes(), 3, padding=1), lf.max_pool2d(2), lf.relu()


def recurrent():
    return (lf.lstm(lanes(), num_layers=2),)


SMALL = "small_product"

# Of each net: its x, whether its state is donated, and the kernels, with how many of Inductor's
# tensors each writes over. It is written once, however often it is called: of two layers of an LSTM
# on the way back, whose sizes are the same. An LSTM's gates are written over.
STEPS = {
    "convolutional": (
        convolutional, drawn(0, 5, 2, 8, 6), True,
        {"pooled_convolution": 2, "pooled_convolution_backward": 2}
    ),
    "recurrent": (
        recurrent, drawn(2, 5, 7, 4), False, {"lstm_steps": 3, "lstm_steps_backward": 3}
    ),
}  # fmt: skip


@pytest.fixture
def counts(monkeypatch):
    """Collect what is called, with how many tensors are written over."""
    calls, init = [], lowering.Call.__init__

    def noted(self, name, code, tensors, changed, made):
        calls.append((name, len(changed)))
        init(self, name, code, tensors, changed, made)

    monkeypatch.setattr(lowering.Call, "__init__", noted)
    return calls


@pytest.mark.parametrize("name", STEPS)
def test_kernels_of_a_step_are_called_from_its_code(name, written, counts):
    net, x, donate, expected = STEPS[name]
    layer = lf.serial(*net(), lf.flatten(), lf.dense(3))
    assert_compiles(layer, lf.optim.sgd(0.1), x, torch.arange(5) % 3, donate=donate)
    # Of small products there are as many as there are shapes; each is a tensor of its own.
    twice = ["lstm_steps"] if net is recurrent else []
    assert sorted(name for name in written if name != SMALL) == sorted([*expected, *twice])
    assert SMALL in written
    assert dict(counts) == {**expected, SMALL: 0}


def test_an_update_is_written_once_for_all_layers_alike(written, counts, monkeypatch):
    monkeypatch.setattr(product_update, "_LEAST", 1)
    monkeypatch.setattr(products, "_MOST", 0)
    layers = lf.repeat(2, lf.serial(lf.dense(64), lf.tanh())), lf.dense(3)
    net, x = lf.serial(*layers), drawn(4, 5, 64)
    optimizer = lf.optim.sgd(0.1, momentum=0.9)
    assert_compiles(net, optimizer, x, torch.arange(5) % 3, donate=True)
    assert written == ["product_update"]
    assert counts == 2 * [("product_update", 2)]


def test_a_loop_takes_parts_of_tensors(written):
    def multiply(stacked):
        a, b = stacked[1:]
        return [products.by_kernel(a, b.mT)]

    stacked = drawn(3, 3, 2, 5, 7)
    fakes = FakeTensorMode(shape_env=ShapeEnv())
    fake = fakes.from_tensor(stacked, static_shapes=True)
    with fakes:
        graph = make_fx(multiply)(fake)
    (y,) = by_inductor(graph, (fake,))([stacked])
    a, b = stacked[1:].double()
    assert same_number(y, a @ b.mT, dtype=torch.float32)
    assert written == ["small_product"]


def test_a_graph_that_other_files_compiled_is_not_found(monkeypatch):
    x, missed = drawn(4, 5, 2), []
    step, state = begin(lf.dense(3), x, MSE)
    with fresh_cache():
        for digest in ("one", "one", "other"):
            monkeypatch.setattr(compile_graph, "digest", lambda digest=digest: digest)
            before = counters["inductor"]["fxgraph_cache_miss"]
            lf.compile(step)(state, (x, torch.zeros(5, 3)))
            missed.append(counters["inductor"]["fxgraph_cache_miss"] - before)
    assert missed == [1, 0, 1]


def test_no_kernel_asks_which_thread_runs_it():
    folder = Path(cpp_kernel.__file__).with_name("kernels")
    files = [file for file in folder.rglob("*") if file.suffix in (".cpp", ".h")]
    assert len(files) > 6
    assert not [file.name for file in files if "omp_" in file.read_text()]
