"""Records: frozen, shown shortly, and known to optree and torch in both views."""

import attrs
import optree
import pytest
import torch
import torch.utils._pytree as torch_pytree
from helpers import FIRST, assert_says, normal, same_bits, same_number

import lincoln_fn as lf
from lincoln_fn.core.record import EVERYTHING, TRAINED
from lincoln_fn.errors.descriptions import format_briefly
from lincoln_fn.layers import dense, softmax


@lf.record
class Statistics(lf.State):
    mean: torch.Tensor
    count: torch.Tensor


@lf.record
class Mixed:
    weight: torch.Tensor
    statistics: Statistics
    bias: torch.Tensor | None = None
    dim: int = lf.static(default=-1)


STATISTICS = Statistics(torch.full((2,), 3.0), torch.tensor(4))
MIXED = Mixed(torch.ones(2, 5), STATISTICS, dim=1)


def test_a_record_cannot_be_changed():
    for name in ("weight", "dim", "another"):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(MIXED, name, 0)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        del MIXED.weight
    assert not hasattr(MIXED, "__dict__")


def test_a_record_is_equal_to_itself_alone_and_can_be_a_key():
    assert MIXED == MIXED
    assert Mixed(MIXED.weight, STATISTICS, dim=1) != MIXED
    assert {MIXED: 1}[MIXED] == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            MIXED,
            "Mixed(weight=float32[2, 5], "
            "statistics=Statistics(mean=float32[2], count=int64 4), bias=None, dim=1)",
        ),
        ((torch.zeros(2, 3), torch.tensor(True)), "(float32[2, 3], bool True)"),
        ((torch.zeros(2),), "(float32[2],)"),
        ((), "()"),
        (torch.zeros((), device="meta"), "float32[]"),
        (torch.tensor(2.5, dtype=torch.float64), "float64 2.5"),
        ({"a": 1}, "{'a': 1}"),
        (lf.Key(1), "Key(bits=int64 6238072747940578789)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_record_shows_dtypes_and_shapes(value, text):
    assert format_briefly(value) == text
    if isinstance(value, Mixed):
        assert repr(value) == text


@pytest.mark.parametrize(
    ("view", "leaves"),
    [(TRAINED, [MIXED.weight]), (EVERYTHING, [MIXED.weight, STATISTICS.mean, STATISTICS.count])],
)
def test_optree_takes_a_record_apart_and_together_in_both_views(view, leaves):
    given, structure = optree.tree_flatten(MIXED, namespace=view)
    assert len(given) == len(leaves)
    assert all(a is b for a, b in zip(given, leaves, strict=True))
    again = optree.tree_unflatten(structure, [leaf + 1 for leaf in given])
    assert isinstance(again, Mixed)
    assert same_bits(again.weight, MIXED.weight + 1)
    assert (again.bias, again.dim) == (None, 1)
    if view == TRAINED:
        assert again.statistics is STATISTICS
    else:
        assert same_bits(again.statistics.mean, STATISTICS.mean + 1)
        assert same_bits(again.statistics.count, STATISTICS.count + 1)


def test_torchs_pytree_takes_a_record_apart_and_together():
    leaves, structure = torch_pytree.tree_flatten((MIXED, {"key": lf.Key(2)}))
    # The bias, which is None, is structure: torch would have None for a leaf.
    assert [leaf.shape for leaf in leaves] == [(2, 5), (2,), (), ()]
    again, keyed = torch_pytree.tree_unflatten(leaves, structure)
    assert again.weight is MIXED.weight
    assert again.statistics.count is STATISTICS.count
    assert (again.bias, again.dim) == (None, 1)
    assert same_bits(keyed["key"].bits, lf.Key(2).bits)


def test_torchs_paths_are_the_fields_names():
    pairs, _ = torch_pytree.tree_flatten_with_path(MIXED)
    paths = [torch_pytree.keystr(path) for path, _ in pairs]
    assert paths == [".weight", ".statistics.mean", ".statistics.count"]


def test_torchs_structure_survives_serialisation():
    _, structure = torch_pytree.tree_flatten(MIXED)
    again = torch_pytree.treespec_loads(torch_pytree.treespec_dumps(structure))
    assert again == structure


def test_a_static_field_is_structure():
    first, other = softmax.Cache(torch.ones(2), 0), softmax.Cache(torch.ones(2), 1)
    assert lf.tree.leaves(first) == [first.y]
    assert lf.tree.same_structure(first, softmax.Cache(torch.zeros(3), 0))
    assert not lf.tree.same_structure(first, other)
    assert_says("ValueError: Mismatch", lf.tree.map, torch.add, first, other)
    assert_says("TypeError: dim", softmax.Cache, torch.ones(2))


def test_two_states_are_one_structure_in_training():
    grads = Mixed(torch.full((2, 5), 2.0), Statistics(torch.zeros(9), torch.tensor(0)), dim=1)
    new = lf.tree.map(torch.sub, MIXED, grads)
    assert same_bits(new.weight, MIXED.weight - 2)
    assert new.statistics is STATISTICS
    other = attrs.evolve(MIXED, statistics=lf.Key(0))
    assert not lf.tree.same_structure(MIXED, other)


def test_vmap_maps_over_an_ensemble_of_parameters():
    members = [lf.dense(4).init(key, torch.zeros(1, 3)) for key in lf.Key(0).split(6)]
    stacked = lf.tree.map(lambda *leaves: torch.stack(leaves), *members)
    assert isinstance(stacked, dense.Params)
    x = normal(5, 3)
    y = torch.func.vmap(lf.dense(4).predict, in_dims=(0, None))(stacked, x)
    for i, params in enumerate(members):
        assert same_number(y[i], lf.dense(4).predict(params, x))


@pytest.mark.parametrize("case", FIRST, ids=str)
def test_params_and_caches_of_every_layer_survive_both_libraries(case):
    params = case.params()
    cache = case.layer.forward(params, case.x)[1]
    for value in (params, cache):
        leaves, structure = torch_pytree.tree_flatten(value)
        assert format_briefly(torch_pytree.tree_unflatten(leaves, structure)) == format_briefly(
            value
        )
        assert format_briefly(lf.tree.map(lambda leaf: leaf, value, states=True)) == format_briefly(
            value
        )


def refusing():
    """Make records whose number a tree may hold below 0, and their own constructor not."""

    @lf.record
    class Checked:
        number: object = attrs.field(validator=attrs.validators.ge(0))

    @lf.record
    class Own:
        number: object

        def __init__(self, number):
            self.__attrs_init__(abs(number))

    @lf.record
    class Swapped:
        dim: int = lf.static()
        number: object = None

    return {Checked: (1,), Own: (1,), Swapped: (7, 1)}


@pytest.mark.parametrize("i", range(3))
def test_a_tree_holds_what_a_constructor_would_refuse(i):
    cls, arguments = list(refusing().items())[i]
    made = cls(*arguments)
    _, structure = optree.tree_flatten(made, namespace=EVERYTHING)
    again = structure.unflatten([-5])
    assert type(again) is cls
    assert (again.number, getattr(again, "dim", 7)) == (-5, 7)
