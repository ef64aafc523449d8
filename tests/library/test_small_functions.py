"""Small internal functions whose values no other test asserts directly."""

import math

import pytest
import torch
from helpers.compare import same_bits

import lincoln_fn as lf
from lincoln_fn.checkpoint.contents import read_score
from lincoln_fn.checkpoint.places import is_count, record_strides
from lincoln_fn.compiler.kernels.cpp_kernel import result_of
from lincoln_fn.compiler.passes.products import is_turned, without_gaps
from lincoln_fn.core.versions import checksum
from lincoln_fn.distributed.data_parallel.buckets import layout
from lincoln_fn.distributed.data_parallel.shards import (
    Shards,
    add_node,
    bounds_of,
    find_nodes,
    root_of,
)
from lincoln_fn.distributed.pipeline_parallel.tied_params import leaves_at, with_leaves
from lincoln_fn.optim.sharded import slice_rows, spans
from lincoln_fn.training.history import is_gain


@pytest.mark.parametrize(("rank", "expected"), [(0, [(0, 4), (0, 0)]), (1, [(4, 5), (0, 3)])])
def test_eight_numbers_of_two_leaves_are_divided_between_two_processes(rank, expected):
    assert spans([5, 3], rank, 2) == expected


def test_the_rows_of_slices_end_in_zeros():
    rows = slice_rows([torch.arange(5), torch.arange(2)], 2)
    assert rows.tolist() == [[0, 1, 2, 0], [3, 4, 0, 1]]


def test_a_checksum_sees_the_sign_of_zero():
    assert checksum([torch.tensor(0.0)]) != checksum([torch.tensor(-0.0)])


def test_buckets_hold_the_last_leaves_first_and_some_on_their_own():
    params = (torch.zeros(4),), (torch.zeros(2),), (torch.zeros(1),)
    assert layout(params, 12) == [[1, 2], [0]]
    assert layout(params, 12, [[0, 1]]) == [[2], [0, 1]]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [((0, 4, 8), [(2, 0)]), ((1, 5, 5), [(0, 1), (1, 1), (2, 1)]), ((3, 3, 8), [])],
)
def test_the_highest_nodes_over_some_numbers(numbers, expected):
    assert find_nodes(*numbers) == expected


def test_two_siblings_become_their_sum():
    known = {(0, 0): torch.tensor(1.0)}
    add_node(known, (0, 1), torch.tensor(2.0), 4)
    assert known == {(1, 0): 3.0}
    assert root_of({**known, (0, 2): torch.tensor(4.0)}, 3) == 7.0


def test_five_examples_in_two_shards():
    assert bounds_of("mean", Shards(lf.distributed.alone(), 2, True), [5]) == [0, 2, 5]


def test_leaves_are_found_and_replaced_by_path():
    zero, one, two, three = torch.arange(4.0)
    params = (zero, (one, two))
    assert leaves_at(params, "1") == {"1.0": one, "1.1": two}
    assert with_leaves(params, {"1.0": three}) == (zero, (three, two))


@pytest.mark.parametrize(
    ("value", "expected"), [(3, True), (-1, False), (True, False), (2.0, False), (2**63, False)]
)
def test_what_json_can_give_as_a_length(value, expected):
    assert is_count(value) is expected


@pytest.mark.parametrize("score", [math.nan, math.inf, "0.5", None, 10**400])
def test_what_is_no_score(score):
    assert read_score(score) is None
    assert read_score(1) == 1.0


def test_only_permuted_strides_are_recorded():
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros(2, 3).T, "c": torch.zeros(4, 3)[:, :2]}
    assert record_strides(tensors) == {"b": [1, 3]}


def test_a_matrix_that_is_column_major_is_not_copied():
    turned, sliced = torch.ones(2, 3).mT, torch.ones(3, 4)[:, :2]
    assert without_gaps(turned) is turned
    assert without_gaps(sliced).stride() == (2, 1)
    assert same_bits(without_gaps(sliced), sliced)
    assert [is_turned(m) for m in (turned, turned.mT, torch.ones(3, 1))] == [True, False, False]


def test_an_operation_returns_one_tensor_several_or_none():
    assert [result_of(made) for made in ((3,), (3, 4), ())] == [3, (3, 4), None]


def test_a_score_is_better_by_its_mode_and_by_enough():
    assert is_gain(0.9, 0.8, "max")
    assert is_gain(0.8, 0.9, "min")
    assert not is_gain(0.9, 0.8, "min")
    assert not is_gain(0.9, 0.8, "max", 0.2)
    assert not is_gain(math.nan, 0.8, "max")
