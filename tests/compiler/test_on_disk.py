"""A compiled step on disk is found by the text of its trace, and by nothing else."""

import os
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from helpers import CE, SGD, begin, drawn, layer_of, run_child, same_number
from helpers.compiling import assert_compiles, compiles, since_2_13
from torch._inductor import config
from torch._inductor.runtime.cache_dir_utils import cache_dir
from torch._inductor.utils import fresh_cache

import lincoln_fn as lf
from lincoln_fn.compiler import graphs as making
from lincoln_fn.compiler.inductor import compile_graph, disk_cache
from lincoln_fn.compiler.inductor.compile_graph import by_inductor
from lincoln_fn.compiler.inductor.settings import lanes
from lincoln_fn.compiler.tracing import of_step, write_down

pytestmark = [pytest.mark.full, compiles, since_2_13]

X, T = drawn(4, 5, 8), torch.arange(5) % 3
NOTE_ON = disk_cache.note_on


@pytest.fixture
def compiled(monkeypatch):
    """Collect the graphs that Inductor compiles; in a folder that is empty at first."""
    graphs = []

    def noted(graph, inputs):
        graphs.append(graph)
        return by_inductor(graph, inputs)

    with fresh_cache():
        monkeypatch.setattr(making, "by_inductor", noted)
        monkeypatch.setattr(disk_cache, "note_on", NOTE_ON)
        yield graphs


NET = lf.serial(lf.dense(4), lf.sigmoid(), lf.dense(3))


def example(net=NET, loss=CE, optimizer=SGD, donate=False):
    return begin(net, X, loss, optimizer, donate=donate)


def assert_steps(step):
    """Compile a step anew, and take steps as the eager one does."""
    assert_compiles(step.net, step.optimizer, X, T, donate=step.donate, loss=step.loss)


@pytest.mark.parametrize("donate", [False, True])
def test_a_step_is_found_and_is_the_same(compiled, donate):
    step, _ = example(NET, CE, lf.optim.adam(0.01), donate)
    for _ in range(2):
        assert_steps(step)
        assert len(compiled) == 1


def note_of(step, state, batch=(X, T)):
    return NOTE_ON(write_down(of_step(step), state, batch), donate=step.donate)


def test_what_differs_has_another_note():
    given = example()
    notes = [
        note_of(*given),
        note_of(*example(lf.serial(lf.dense(4), lf.tanh(), lf.dense(3)))),
        note_of(*example(optimizer=lf.optim.sgd(0.2))),
        note_of(*example(donate=True)),
        note_of(*given, (X[:4], T[:4])),
        note_of(*given, (X.mT.contiguous().mT, T)),
        note_of(*given, (X, T.int())),
    ]
    threads = torch.get_num_threads()
    for change, other, usual in (
        (torch.set_num_threads, threads + 1, threads),
        (torch.use_deterministic_algorithms, True, False),
        (torch.set_default_dtype, torch.float64, torch.float32),
    ):
        change(other)
        try:
            notes.append(note_of(*given))
        finally:
            change(usual)
    for context in (
        config.patch({"cpp.min_chunk_size": 64}),
        patch.object(disk_cache, "precision", lambda: "bf16"),
        patch.object(disk_cache, "digest", lambda: "of other files"),
        patch.object(torch.cpu, "get_capabilities", lambda: {"avx2": True}),
        patch.dict(os.environ, ATEN_CPU_CAPABILITY="another"),
    ):
        with context:
            notes.append(note_of(*given))
    assert None not in notes
    assert len(set(notes)) == len(notes)
    assert note_of(*example()) == notes[0]


def test_code_for_other_vectors_is_not_found_in_the_same_folder(compiled, monkeypatch):
    monkeypatch.setitem(compile_graph._OPTIONS, "cpp_cache_precompile_headers", False)

    def function(x, y):
        return x * y.sigmoid(), x.var(1)

    assert same_number(lf.compile(function)(X, X), function(X, X))
    # Inductor's own cache is in that folder too, whose code for vectors does not compile without.
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default" if lanes() else "avx2")
    assert same_number(lf.compile(function)(X, X), function(X, X))
    assert len(compiled) == 2


@pytest.mark.parametrize("forbidden", [{"force_disable_caches": True}, {"fx_graph_cache": False}])
def test_caches_that_are_forbidden_have_no_note(forbidden):
    with config.patch(forbidden):
        assert note_of(*example()) is None


@torch.library.custom_op("test_on_disk::halved", mutates_args=())
def halved(x: torch.Tensor) -> torch.Tensor:
    return x / 2


@halved.register_fake
def _(x):
    return torch.empty_like(x)


# A user's layer that calls an operation of the user's own, which may be another tomorrow.
HALVING = layer_of(halved, back=halved)
# No graph's code shows the numbers of a tensor that a loss or a layer holds.
UNTOLD = {
    "numbers": (NET, lf.losses.softmax_cross_entropy(weight=torch.tensor([1.0, 2.0, 0.5]))),
    "an operation": (lf.serial(lf.dense(3), HALVING), CE),
}


@pytest.mark.parametrize("name", UNTOLD)
def test_what_a_note_does_not_tell_has_none(name):
    assert note_of(*example(*UNTOLD[name])) is None


def test_what_has_no_note_is_compiled_anew_and_kept_nowhere(compiled):
    step, _ = example(*UNTOLD["numbers"])
    for times in (1, 2):
        assert_steps(step)
        assert len(compiled) == times
    assert not Path(cache_dir(), "lincoln_fn").exists()


def test_the_digest_is_of_what_the_files_say(tmp_path):
    here, seen = Path(lf.__file__).parent, [disk_cache.digest()]
    for name, file, more in (
        ("same", "layers/dense.py", ""),
        ("other", "layers/dense.py", "# Another.\n"),
        ("others", "compiler/kernels/vectors.h", "// Another.\n"),
    ):
        folder = shutil.copytree(here, tmp_path / name)
        with (folder / file).open("a") as file:
            file.write(more)
        seen.append(disk_cache.digest(folder))
    assert seen[0] == seen[1]
    assert len(set(seen)) == 3


TRAIN = """
import sys, torch, lincoln_fn as lf
net, optimizer, x = lf.dense(2), lf.optim.sgd(0.1), torch.ones(4, 3)
step = lf.compile(lf.make_step(net, lf.losses.mse(), optimizer, donate=True))
state = lf.init_state(net, optimizer, lf.Key(0), x)
for _ in range(2):
    state, value = step(state, (x, torch.ones(4, 2)))
print(value.item(), "torch._inductor.compile_fx" in sys.modules)
"""


def test_another_process_finds_it_without_inductor(tmp_path):
    told = [run_child(TRAIN, TORCHINDUCTOR_CACHE_DIR=str(tmp_path)).stdout.split() for _ in "12"]
    assert told[0][1] == "True"
    assert told[1] == [told[0][0], "False"]
