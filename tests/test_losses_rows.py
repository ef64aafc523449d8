"""Cross-entropy on classes that lie side by side in memory is the same as on others."""

import math

import pytest
import torch

import lincoln_fn as lf
from lincoln_fn.losses.rows import ByRows

X = lf.keys.normal(lf.Key(0), (2, 5, 3, 4)).double()
BY_ROWS = X.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
LABELS = (torch.arange(24) % 5).view(2, 3, 4)
SOME_IGNORED = torch.where(LABELS == 2, -100, LABELS)
PROBABILITIES = torch.softmax(lf.keys.normal(lf.Key(1), (2, 5, 3, 4)).double(), 1)
WEIGHT = torch.tensor([1.0, 2.0, 0.5, 3.0, 0.1]).double()

FORMS = [{}, {"weight": WEIGHT}, {"label_smoothing": 0.1}, {"weight": WEIGHT, "ignore_index": 3}]
TARGETS = {"labels": LABELS, "some ignored": SOME_IGNORED, "probabilities": PROBABILITIES}
CASES = [
    (form, target)
    for form in FORMS
    for target in TARGETS
    if (target == "labels" or "ignore_index" not in form)
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("form", "target"), CASES, ids=str)
def test_value_and_gradient_do_not_depend_on_the_order_in_memory(form, target, reduction):
    loss = lf.losses.softmax_cross_entropy(**form, reduction=reduction)
    target = TARGETS[target]
    value, cache = loss.forward(BY_ROWS, target)
    expected, plain = loss.forward(X, target)
    assert isinstance(cache.kept, ByRows)
    assert not isinstance(plain.kept, ByRows)
    torch.testing.assert_close(value, expected)
    g = lf.keys.normal(lf.Key(2), tuple(value.shape)).double()
    dx = loss.backward(cache, g)
    torch.testing.assert_close(dx, loss.backward(plain, g))
    assert dx.stride() == BY_ROWS.stride()
    lf.testing.check_loss(loss, BY_ROWS, target)


def test_one_class_and_far_apart_logits_are_the_same_by_rows():
    for x in (X[:, :1], X * 1e4):
        rows = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        target = LABELS * (x.shape[1] > 1)
        loss = lf.losses.softmax_cross_entropy()
        (value, cache), (expected, plain) = loss.forward(rows, target), loss.forward(x, target)
        assert math.isclose(value, expected)
        torch.testing.assert_close(loss.backward(cache), loss.backward(plain))


@pytest.mark.parametrize(
    "target",
    [
        LABELS[:, :2],
        LABELS.view(2, 12),
        LABELS.double(),
        PROBABILITIES[:, :4],
        LABELS + 1,
        LABELS - 1,
    ],
    ids=lambda target: f"{target.dtype} {tuple(target.shape)} from {target.min():.0f}",
)
def test_errors_speak_of_the_shapes_given(target):
    loss = lf.losses.softmax_cross_entropy()
    with pytest.raises(lf.LayerError) as expected:
        loss.forward(X, target)
    with pytest.raises(lf.LayerError) as raised:
        loss.forward(BY_ROWS, target)
    assert str(raised.value) == str(expected.value)
