"""Checkpoints: what is saved is loaded bit for bit, and what does not fit is told."""

import errno
import os
import re
from collections import OrderedDict, defaultdict, deque, namedtuple
from tempfile import TemporaryDirectory

import attrs
import numpy as np
import pytest
import torch
from helpers import assert_says, begin, normal, same_bits
from helpers.checkpoints import blank, refused
from helpers.refusals import refusals
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

import lincoln_fn as lf
from lincoln_fn import checkpoint
from lincoln_fn.layers import dense

X, T = normal(6, 5), torch.arange(6) % 4
NET = lf.serial(lf.dense(7), lf.batch_norm(), lf.dropout(0.5), lf.dense(4), lf.log_softmax())
STEP, STATE = begin(NET, X, lf.losses.nll(), lf.optim.adam(0.01))
Pair = namedtuple("Pair", "first second")


@lf.record
class Named:
    value: torch.Tensor
    name: str = lf.static(default="")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state.safetensors"


def some_bits(*shape, dtype=torch.float32):
    """Make numbers out of all bit patterns, nan and subnormal ones too."""
    size = torch.empty((), dtype=dtype).element_size()
    count = int(np.prod(shape, dtype=int))
    drawn = lf.keys.bits(lf.Key(count + size), (count,)).view(torch.uint8)[: count * size]
    if dtype is torch.bool:
        drawn = drawn & 1
    return drawn.clone().view(dtype).view(shape)


def assert_same(given, expected):
    """Hold two trees against each other: structure, dtypes, shapes, strides and bits."""
    described = (checkpoint.file.describe(tree) for tree in (given, expected))
    (leaves, tensors, rest), (expected_leaves, expected_tensors, expected_rest) = described
    assert rest == expected_rest
    assert list(leaves) == list(expected_leaves)
    assert same_bits(tensors, expected_tensors)


DTYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
)  # fmt: skip
tensors = st.builds(
    lambda shape, dtype: some_bits(*shape, dtype=dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(DTYPES),
)
plain = st.none() | st.integers() | st.floats() | st.booleans() | st.text(max_size=3)
trees = st.recursive(
    tensors | plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(deque),
        st.dictionaries(st.text(max_size=4) | st.just("__metadata__"), inner, max_size=3),
        st.dictionaries(st.text(max_size=4), inner, max_size=3).map(OrderedDict),
        st.builds(Pair, inner, inner),
        st.builds(Named, inner, st.text(max_size=3)),
        st.builds(lambda weight, bias: dense.Params(weight, bias), tensors, st.none() | tensors),
    ),
    max_leaves=8,
)


@given(tree=trees)
def test_any_tree_survives_bit_for_bit(tree, tmp_path_factory):
    file = tmp_path_factory.mktemp("round") / "tree.safetensors"
    checkpoint.save(file, tree)
    assert_same(checkpoint.load(file, blank(tree)), tree)
    first = file.read_bytes()
    checkpoint.save(file, tree)
    assert file.read_bytes() == first


BASE = some_bits(4, 6)
AWKWARD = {
    "a scalar": torch.tensor(2.5, dtype=torch.float64),
    "a whole storage and views of it": (BASE, BASE, BASE[1], BASE[:, ::2], BASE.T),
    "an expanded tensor": torch.tensor([1.0, 2.0]).expand(3, 2),
    "no elements": (torch.zeros(0), torch.zeros(3, 0, 2), torch.zeros(0, dtype=torch.bool)),
    "a parameter that requires a gradient": torch.nn.Parameter(torch.ones(2)),
    "keys that read as paths": {"0.weight": torch.ones(1), "0": {"weight": torch.zeros(1)}},
    "keys that read as numbers": ({"1": torch.ones(1)}, {1: torch.zeros(1)}),
    "safetensors' own key": {"__metadata__": torch.ones(1), "": torch.zeros(1)},
    "a defaultdict": defaultdict(list, {"a": torch.ones(1)}),
    "nothing": (),
    "numbers alone": (1, 2.5, None, True, "name", b"bytes", torch.float32, np.float32(0.5)),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_trees_survive(name, file):
    checkpoint.save(file, AWKWARD[name])
    loaded = checkpoint.load(file, blank(AWKWARD[name]))
    assert_same(loaded, AWKWARD[name])
    for leaf in lf.tree.leaves(loaded):
        if isinstance(leaf, torch.Tensor):
            assert leaf.is_leaf
            assert not leaf.requires_grad


def test_loaded_tensors_are_their_own(file):
    checkpoint.save(file, (BASE, BASE[0], BASE))
    first = checkpoint.load(file, (BASE, BASE[0], BASE))
    assert len({t.untyped_storage().data_ptr() for t in (*first, BASE)}) == 4
    assert all(t.data_ptr() % 64 == 0 for t in first)  # as torch's own allocations
    copy = first[0].clone()
    first[0].add_(1)
    assert_same(checkpoint.load(file, first)[0], copy)  # and not a window into the file


def test_dense_strides_survive_and_others_become_plain(file):
    channels_last = normal(4, 3, 5, 2).to(memory_format=torch.channels_last)
    one_channel = normal(4, 1, 5, 2).to(memory_format=torch.channels_last)
    tree = (
        channels_last,
        one_channel,
        normal(4, 3).T,
        normal(4, 6)[:, ::2],
        normal(2).expand(3, 2),
    )
    checkpoint.save(file, tree)
    loaded = checkpoint.load(file, blank(tree))
    assert [t.stride() for t in loaded[:3]] == [t.stride() for t in tree[:3]]
    assert all(t.is_contiguous() for t in loaded[3:])
    assert_same(loaded, tree)


def test_like_on_meta_serves(file):
    checkpoint.save(file, STATE)
    on_meta = lf.tree.map(lambda t: t.to("meta"), STATE, states=True)
    assert_same(checkpoint.load(file, on_meta), STATE)


def test_the_file_has_the_umasks_mode(file):
    checkpoint.save(file, STATE)
    (file.parent / "plain").touch()
    assert file.stat().st_mode == (file.parent / "plain").stat().st_mode


class Stop(BaseException):
    """What no handler expects."""


@pytest.mark.parametrize("error", [Stop(), OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "")])
def test_a_save_that_is_cut_short_leaves_the_old_file(error, file, monkeypatch):
    checkpoint.save(file, STATE)
    later, _ = STEP(STATE, (X, T))

    def stop(*_):
        raise error

    for owner, name in ((os, "fsync"), (type(file), "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stop)
            with pytest.raises(type(error)):
                checkpoint.save(file, later)
        assert_same(checkpoint.load(file, STATE), STATE)
        assert os.listdir(file.parent) == [file.name]


def test_file_and_folder_are_synced_around_the_rename(file, monkeypatch):
    calls = []
    fsync, replace = os.fsync, type(file).replace

    def watched_fsync(number):
        calls.append((os.readlink(f"/proc/self/fd/{number}"), os.fstat(number).st_size))
        fsync(number)

    def watched_replace(self, target):
        calls.append("replace")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(type(file), "replace", watched_replace)
    checkpoint.save(file, torch.ones(1))  # small enough to stay in Python's buffer
    (temporary, size), renamed, (folder, _) = calls
    assert re.fullmatch(re.escape(str(file.parent)) + r"/\.state\.safetensors\.\w+\.tmp", temporary)
    assert size == file.stat().st_size
    assert renamed == "replace"
    assert folder == os.path.realpath(file.parent)


A, B = torch.zeros(2, 3), torch.zeros(4)
DENSE = dense.Params(A, B)
OURS = "lincoln_fn.layers"
# By case: what is saved, what it is loaded as, and the lines of the error after the first.
MISFITS = {
    "unexpected": ({"a": A, "b": B}, {"a": A}, ["unexpected b float32[4]"]),
    "a shape": ({"a": A}, {"a": A.T}, ["a: expected float32[3, 2], got float32[2, 3]"]),
    "a scalar": ((A[0, 0],), (A[0, :1],), ["0: expected float32[1], got float32[]"]),
    "a record of the same fields": (
        lf.layers.layer_norm.Params(B, B), lf.layers.dense.Params(B, B),
        [f"the root: expected {OURS}.dense.Params, got {OURS}.layer_norm.Params"],
    ),
    "an empty part": (((), A), ({}, A), ["0: expected dict, got tuple"]),
    "None for a tensor": (
        dense.Params(A, None), DENSE, ["bias: expected float32[4], got None"],
    ),
    "an int for a float": ({"n": 1}, {"n": 1.0}, ["n: expected 1.0, got 1"]),
    "a static field": (
        Named(A, "one"), Named(A, "two"), ["name: expected static 'two', got static 'one'"],
    ),
    "a key's name": ({"1": A}, {1: A}, ["missing 1 float32[2, 3]", "unexpected '1' float32[2, 3]"]),
    "everything at once": (
        (A, B, [A], "x"), (A.long(), B[:3], (A, B), "y"),
        [
            "missing 2.1 float32[4]",
            "2: expected tuple, got list",
            "3: expected 'y', got 'x'",
            "0: expected int64[2, 3], got float32[2, 3]",
            "1: expected float32[3], got float32[4]",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("saved", "like", "lines"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_named(saved, like, lines, file):
    checkpoint.save(file, saved)
    refusal = refused(checkpoint.load, file, like)
    expected = [f"{file}: does not fit what it is to be loaded as", *(f"  {x}" for x in lines)]
    assert str(refusal).splitlines() == expected


def test_a_state_that_is_loaded_as_params_says_what_the_file_holds(file):
    checkpoint.save(file, STATE)
    assert str(refused(checkpoint.load, file, STATE.params)) == (
        f"{file}: holds a TrainState, and is to be loaded as its params; load it as a state, such "
        "as lf.init_state makes, and use its params"
    )


def test_arguments_in_another_order_are_named(file):
    kind = "expected path to be the path of a file, got TrainState"
    for call, order in (
        (checkpoint.save, "save(path, state)"),
        (checkpoint.load, "load(path, like)"),
    ):
        said = f"^checkpoint.{call.__name__}: {kind} ... ; the order is checkpoint.{order}$"
        assert_says(said, call, STATE, file)


def test_a_tree_that_only_has_the_names_of_a_state_is_not_called_one(file):
    params = {"weight": torch.ones(2)}
    checkpoint.save(file, {"params": params, "step": torch.tensor(1)})
    said = "CheckpointError: does not fit what it is to be loaded as"
    assert_says(said, checkpoint.load, file, params)


def test_static_functions_agree_across_runs(file):
    checkpoint.save(file, Named(A, lambda: 1))
    assert " at 0x" not in file.read_bytes().decode(errors="replace")


@attrs.frozen
class Unregistered:
    weight: torch.Tensor


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_that_a_step_has_updated_in_place_is_refused(file, dtype):
    step, state = begin(NET, X.to(dtype), lf.losses.nll(), donate=True)
    new, _ = step(state, (X.to(dtype), T))
    for spent, name in ((state, "params.0.weight"), (state.params, "0.weight")):
        assert refused(checkpoint.save, file, spent).problem == (
            f"expected a state that no step has updated in place, got {name} empty; "
            "save it before the next step, or use a step without donate"
        )
    checkpoint.save(file, (new, torch.empty(0, 0, dtype=dtype)))  # which is no donated tensor


class Entry:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


class Stateless:
    pass


def saved(tree):
    """Try to save a tree in a folder, which stays empty."""
    with TemporaryDirectory() as folder:
        try:
            checkpoint.save(f"{folder}/file", tree)
        finally:
            assert os.listdir(folder) == []


test_what_has_no_place_in_a_file_is_refused = refusals("""
saved(NET) -> CheckpointError: /file: expected a tensor, a number or text, got Layer; a network's
    numbers are in its state: write checkpoint.save(path, state)$
saved((np.zeros(3),)) -> CheckpointError: /file: expected a tensor, a number or text at 0, got
    ndarray$
saved({'net': Unregistered(A)}) -> CheckpointError: /file: expected a tensor, a number or text at
    net, got Unregistered$
saved({'w': torch.zeros(2, dtype=torch.complex128)}) -> CheckpointError: /file: expected a tensor
    with numbers that safetensors holds at w, got strided complex128[2]$
saved({'w': A.to_sparse()}) -> CheckpointError: holds at w, got sparse_coo float32[2, 3]$
saved({'w': A.to('meta')}) -> CheckpointError: holds at w, got meta float32[2, 3]$
saved({'net': {Stateless(): A}}) -> CheckpointError: /file: expected a key whose text is its own at
    net, got Stateless$
saved({print: 1, len: A, (lambda: 1): A}) -> CheckpointError: /file: expected a key whose text is
    its own at the root, got function$
saved({Entry('__metadata__'): A}) -> CheckpointError: /file: expected a name that safetensors can
    hold, got '__metadata__'$
saved({Entry('\\ud800'): A}) -> CheckpointError: /file: expected a name that safetensors can hold,
    got '\\ud800'$
saved({Entry('?'): A, Entry('?'): A}) -> CheckpointError: /file: expected one value at each path,
    got two at ?$
""")


def test_a_header_longer_than_safetensors_reads_is_refused(file, monkeypatch):
    monkeypatch.setattr("lincoln_fn.checkpoint.places._LONGEST", 1000)
    checkpoint.save(file, {"w": A})
    refusal = refused(checkpoint.save, file, {"w" * 1000: A})
    assert re.fullmatch(
        r"expected names and text of at most 1000 bytes, which safetensors can read, got 1\d\d\d",
        refusal.problem,
    )
    assert_same(checkpoint.load(file, {"w": A}), {"w": A})


@pytest.mark.parametrize("tree", [STATE, AWKWARD["no elements"], AWKWARD["a scalar"], ()])
def test_the_library_of_safetensors_reads_the_file(tree, file):
    checkpoint.save(file, tree)
    _, expected, _ = checkpoint.file.describe(tree)
    with safe_open(file, "pt") as opened:
        assert list(opened.metadata()) == ["lincoln_fn"]
        assert sorted(opened.keys()) == sorted(expected)
        if tree is STATE:
            assert sorted(expected) == sorted(lf.tree.paths(STATE, states=True))
        assert_same({name: opened.get_tensor(name) for name in expected}, expected)
    assert_same(load_file(file), expected)


@pytest.mark.parametrize("shape", [(2**19,), (3, 2**18), (1, 5, 2**17), (2**18 + 1, 2), (7, 2**16)])
@pytest.mark.parametrize("layout", ["plain", "permuted", "every other"])
def test_tensors_of_several_blocks_survive(shape, layout, file):
    tensor = some_bits(*shape)
    if layout == "permuted":
        tensor = tensor.permute(*reversed(range(len(shape))))
    if layout == "every other":
        tensor = tensor[..., ::2]
    checkpoint.save(file, [tensor])
    loaded = checkpoint.load(file, blank([tensor]))
    assert_same(loaded, [tensor])
    assert layout == "every other" or loaded[0].stride() == tensor.stride()


def test_a_negated_view_is_saved_as_its_numbers(file):
    view = torch.conj(torch.tensor([1 + 2j, 3 - 1j])).imag
    assert view.is_neg()
    checkpoint.save(file, [view])
    assert checkpoint.load(file, [view])[0].tolist() == [-2.0, 1.0]


def test_a_file_that_does_not_fit_takes_no_memory(file, monkeypatch):
    checkpoint.save(file, {"w": A})
    monkeypatch.setattr(torch, "empty", lambda *_, **__: pytest.fail("took memory"))
    assert_says("CheckpointError: does not fit", checkpoint.load, file, {"w": B})


def test_a_like_that_is_no_tree_is_refused(file):
    checkpoint.save(file, (A,))
    refusal = refused(checkpoint.load, file, (np.zeros(3),))
    problem = "like: expected a tensor, a number or text at 0, got ndarray"
    assert (refusal.path, refusal.problem) == (file, problem)


def test_a_save_makes_no_folder(file):
    with pytest.raises(FileNotFoundError):
        checkpoint.save(file.parent / "none" / "state.safetensors", (A,))
