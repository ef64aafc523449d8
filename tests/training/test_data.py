"""Batches: a function of (key, i), resumable, of tensors and arrays alike."""

import attrs
import numpy as np
import pytest
import torch
from helpers import assert_says, same_bits
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import data
from lincoln_fn.training.data import batches

X = torch.arange(14.0).view(7, 2).clone()
T = torch.arange(7)
KEY = lf.Key(3)


def rows(source):
    return [target.tolist() for _, target in source]


def together(lists):
    return [row for batch in lists for row in batch]


def test_without_a_key_batches_are_views_in_order():
    given = list(batches((X, T), 3, epochs=2))
    assert rows(given) == [[0, 1, 2], [3, 4, 5], [6]] * 2
    for x, target in given:
        assert same_bits(x, X[target])
        assert x._base is X


def test_shuffled_batches_are_new_tensors_with_rows_kept_together():
    given = list(batches((X, T), 3, key=KEY))
    assert sorted(together(rows(given))) == list(range(7))
    assert rows(given) != [[0, 1, 2], [3, 4, 5], [6]]
    for x, target in given:
        assert same_bits(x, X[target])
        assert x._base is None


def test_each_epoch_has_every_example_once_in_an_order_of_its_own():
    given = rows(batches((X, T), 3, key=KEY, epochs=3))
    epochs = [together(given[first : first + 3]) for first in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_order_is_a_function_of_the_key():
    assert rows(batches((X, T), 3, key=KEY)) == rows(batches((X, T), 3, key=lf.Key(3)))
    assert rows(batches((X, T), 3, key=KEY)) != rows(batches((X, T), 3, key=lf.Key(4)))
    again = batches((X, T), 3, key=KEY)
    assert rows(again) == rows(again)


@pytest.mark.parametrize("key", [None, KEY], ids=["in order", "shuffled"])
@pytest.mark.parametrize("drop_last", [False, True])
def test_start_and_at_agree_with_a_walk_from_the_beginning(key, drop_last):
    options = {"key": key, "epochs": 3, "drop_last": drop_last}
    everything = rows(batches((X, T), 3, **options))
    for start in range(len(everything) + 1):
        rest = batches((X, T), 3, start=start, **options)
        assert len(rest) == len(everything) - start
        assert rows(rest) == everything[start:]
    one = batches((X, T), 3, **options)
    assert [one.at(i)[1].tolist() for i in range(len(one))] == everything


def test_at_goes_on_past_the_last_epoch():
    short = batches((X, T), 3, key=KEY)
    long = batches((X, T), 3, key=KEY, epochs=2)
    assert short.at(4)[1].tolist() == rows(long)[4]


def test_a_start_past_the_end_gives_nothing():
    assert rows(batches((X, T), 3, start=5)) == []
    assert len(batches((X, T), 3, start=5)) == 0


def test_only_the_last_batch_is_smaller_and_drop_last_leaves_it_out():
    kept = {(3, False): [3, 3, 1], (3, True): [3, 3], (7, False): [7], (9, False): [7]}
    for (size, drop_last), sizes in {**kept, (1, True): [1] * 7}.items():
        source = batches((X, T), size, drop_last=drop_last)
        assert [len(target) for _, target in source] == sizes
        assert len(source) == source.per_epoch == len(sizes)


def test_numpy_arrays_become_tensors_of_their_dtype():
    arrays = (X.numpy().astype(np.float32), T.numpy().astype(np.int32))
    (x, target), *_ = batches(arrays, 3)
    assert (x.dtype, target.dtype) == (torch.float32, torch.int32)
    assert same_bits(x, X[:3])
    assert rows(batches(arrays, 3, key=KEY)) == rows(batches((X, T), 3, key=KEY))


SWAPPED = X.numpy().astype(X.numpy().dtype.newbyteorder())
test_a_layout_of_numpy_that_torch_cannot_read_is_named = refusals("""
batches((T.numpy(), X.numpy()[::-1]), 3) -> ^batches: expected arrays[1] without negative strides,
    got (-8, 4); copy it by x.copy()$
batches((T.numpy(), SWAPPED), 3) -> ^batches: expected arrays[1] in this processor's byte order, got
    ' ... f4'; convert it by x.astype('float32')$
""")


def test_an_array_that_is_only_read_is_not_copied():
    array = X.numpy().copy()
    array.flags.writeable = False
    (x,), *_ = batches((array,), 3)
    assert same_bits(x, X[:3])
    assert x.data_ptr() == array.ctypes.data


def test_several_inputs_are_batched_alike():
    (both, target), *_ = batches(((X, -X), T), 3, key=KEY)
    assert same_bits(both[0], X[target])
    assert same_bits(both[1], -X[target])


def test_batches_print_what_they_are():
    shown = "batches(7 examples by 3, epochs=2, start=1)"
    assert repr(batches((X, T), 3, epochs=2, start=1)) == shown


def test_map_passes_each_batch_of_a_data_loader_through():
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, T), batch_size=3)
    mapped = data.map(lambda x, target: (2 * x, target + 1), loader)
    for _ in range(2):
        assert rows(mapped) == [[1, 2, 3], [4, 5, 6], [7]]
    assert len(mapped) == 3
    assert same_bits(next(iter(mapped))[0], 2 * X[:3])


def test_map_passes_single_items_whole():
    assert list(data.map(lambda i: i + 1, range(3))) == [1, 2, 3]
    assert_says("TypeError: has no len", len, data.map(abs, iter(range(3))))


def test_outputs_follow_the_target_in_the_order_of_the_batches():
    teacher, x = lf.scale(2.0), torch.arange(6.0).view(6, 1)
    source = data.batches((x, torch.arange(6)), 2, key=lf.Key(0), epochs=2)
    added = data.with_outputs(source, teacher, ())
    assert len(added) == len(source)
    for _ in range(2):  # it can be walked again
        for (x_0, t), (x_1, (t_1, output)) in zip(source, added, strict=True):
            assert (x_0.tolist(), t.tolist()) == (x_1.tolist(), t_1.tolist())
            assert output.tolist() == (2 * x_0).tolist()
    resumed = data.with_outputs(attrs.evolve(source, start=4), teacher, ())
    (*_, expected), (*_, last) = added, resumed
    assert len(resumed) == 2
    assert last[1][1].tolist() == expected[1][1].tolist()
    pair = lf.parallel(teacher, teacher)
    for target, count in ((None, 2), (x, 3), ((x, x), 4)):
        ((_, entries),) = data.with_outputs([((x, x), target)], pair, ((), ()))
        assert len(entries) == count
    assert_says("with_outputs: expected net", data.with_outputs, source, "teacher", ())
