"""The report of a check: its findings, how it prints, and how a notebook shows it."""

import attrs
import pytest
import torch
from helpers import same_number

import lincoln_fn as lf
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.testing import Finding, GradientError, Report, check_layer, check_loss, run

X = lf.keys.normal(lf.Key(1), (5, 3))
NO_TANH = lf.tanh().replace(name="no_tanh()", backward=lambda params, y, g: (g, ()))
DENSE = lf.dense(4)


def with_mean(params, cache, g):
    dx, d = DENSE.backward(params, cache, g)
    return -dx, lf.evolve(d, bias=d.bias / 5)


def report_of(layer, x=X):
    return check_layer(layer, layer.init(lf.Key(0), x), x, all=True)


def test_every_gradient_has_a_finding():
    report = report_of(DENSE.replace(backward=with_mean))
    told = [(f.leaf, f.verdict, f.name) for f in report.findings]
    assert told == [
        ("dparams.weight", "right", ""),
        ("dparams.bias", "wrong", "averaged"),
        ("dx", "wrong", "sign"),
    ]
    assert [f.leaf for f in report.mistakes] == ["dparams.bias", "dx"]
    assert not report.is_right
    bias, dx = report.mistakes
    assert same_number((bias.error, dx.error), (0.8, 2.0))
    assert len(dx.place) == 2


def test_a_report_is_frozen():
    report = report_of(DENSE)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        report.name = "other"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        report.findings[0].verdict = "wrong"


def test_a_report_prints_each_gradient_on_a_line():
    assert str(report_of(DENSE)) == (
        "dense(4): right\n  ✓ dparams.weight\n  ✓ dparams.bias\n  ✓ dx"
    )


def test_a_notebook_shows_a_table_with_escaped_text():
    finding = Finding("", "a<b>()", "dx", "wrong", "sign", "a<b>(): dx", (1, 2), 0.5)
    shown = Report("a<b>()", (finding,), ("x < 0 in `a < b`",))._repr_html_()
    assert "<b>a&lt;b&gt;()</b>: wrong" in shown
    assert shown.count("<tr>") == 2
    assert "[1, 2]" in shown
    assert "<li>x &lt; 0 in <code>a &lt; b</code></li>" in shown
    assert "color" not in shown  # so that it reads on a light and a dark page


def test_a_notebook_shows_no_empty_columns():
    shown = report_of(DENSE)._repr_html_()
    assert shown.count("<th") - shown.count("<thead") == 2
    assert "mistake" not in shown


@pytest.mark.parametrize(("verdicts", "heading"), [
    (["right", "right"], "right"), (["right", "wrong", "not judged"], "wrong"),
    (["right", "not judged"], "right"), (["not judged"], "not judged"), ([], "right"),
])  # fmt: skip
def test_the_heading_is_the_verdict_on_all(verdicts, heading):
    report = Report("a()", tuple(Finding("", "a()", "dx", verdict) for verdict in verdicts))
    assert (report.verdict, str(report).splitlines()[0]) == (heading, f"a(): {heading}")
    assert f"</b>: {heading}<table>" in report._repr_html_()


def test_the_wrong_part_of_a_network_is_named_by_its_path():
    net = lf.serial(lf.dense(4), lf.residual(lf.serial(lf.dense(4), NO_TANH)), lf.dense(2))
    report = report_of(net)
    assert (report.mistakes[0].path, report.mistakes[0].layer) == ("1.0.1", "no_tanh()")
    assert report.mistakes[0].name == "derivative missing"
    # What is before the tanh is wrong, what is behind it is right.
    verdicts = {f.leaf: f.verdict for f in report.findings if not f.path}
    assert (verdicts["dparams.0.weight"], verdicts["dparams.2.weight"]) == ("wrong", "right")


def raises(error):
    def function(*arguments):
        raise error

    return function


TANH = lf.tanh()
BROKEN = {
    "raises": (TANH.replace(backward=raises(IndexError("no such row"))), "backward", "contract",
        "tanh(): backward raised IndexError: no such row"),
    "refuses": (TANH.replace(backward=raises(LayerError("mine()", "expected another g"))),
        "backward", "refused", "mine(): expected another g"),
    "changes x": (lf.relu().replace(forward=lambda params, x: (x.relu_(), x)), "forward",
        "in place", "relu(): forward changed x in place"),
}  # fmt: skip


@pytest.mark.parametrize("how", BROKEN)
def test_a_function_that_breaks_the_contract_is_reported(how):
    layer, *told = BROKEN[how]
    assert [[f.leaf, f.name, str(f)] for f in report_of(layer).mistakes] == [told]


def test_halves_that_raise_are_told_beside_the_gradients():
    halves = {"grads": raises(NotImplementedError()), "input_grad": raises(KeyError("x"))}
    report = report_of(DENSE.replace(backward=with_mean, **halves))
    assert [(f.leaf, f.verdict, f.name) for f in report.findings] == [
        ("dparams.weight", "right", ""), ("dparams.bias", "wrong", "averaged"),
        ("dx", "wrong", "sign"), ("input_grad", "wrong", "contract"),
        ("grads", "wrong", "contract"),
    ]  # fmt: skip
    assert str(report.mistakes[-1]) == "dense(4): grads raised NotImplementedError"
    right = DENSE.replace(backward=DENSE.backward, **halves)
    with pytest.raises(GradientError, match=r"^dense\(4\): grads raised NotImplementedError$"):
        check_layer(right, right.init(lf.Key(0), X), X)


def test_a_loss_that_refuses_its_target_is_reported():
    report = check_loss(lf.losses.mse(), X, torch.zeros(4, 2), all=True)
    assert [(f.leaf, f.name) for f in report.findings] == [("forward", "refused")]
    assert report.verdict == "not judged"
    assert not report.is_right
    assert "expected target of shape (5, 3)" in str(report)


def test_a_loss_is_reported():
    loss = lf.losses.mse()
    assert check_loss(loss, X, torch.zeros_like(X), all=True).is_right
    wrong = attrs.evolve(loss, backward=lambda cache, g=1.0: 2 * loss.backward(cache, g))
    report = check_loss(wrong, X, torch.zeros_like(X), all=True)
    assert same_number([(f.leaf, f.error) for f in report.mistakes], [("dx", 1.0)])


@attrs.frozen
class Unregistered:
    w: torch.Tensor


def test_params_of_an_unknown_class_say_how_to_register_it():
    with pytest.raises(LayerError, match=r"params has the type Unregistered.* by @lf\.record$"):
        check_layer(lf.tanh(), Unregistered(X), X)


def test_a_list_for_a_tuple_is_told():
    backward = lambda params, cache, g: (g, [p * g.sum() for p in params])  # noqa: E731
    scaled = lf.Layer("scaled()", lambda params, x: (x, None), backward)
    with pytest.raises(GradientError, match=r"dparams is a list, expected a tuple as params is$"):
        check_layer(scaled, (X, X), X)


@pytest.mark.parametrize(
    ("x", "told"), [(torch.tensor([0, 1, 2, 2]), "integers"), (X[:, 0] > 0, "bools")]
)
def test_a_gradient_of_what_is_not_floating_is_told(x, told):
    backward = lambda w, x, g: (torch.zeros_like(x), g.sum(0))  # noqa: E731
    layer = lf.Layer("mine()", lambda w, x: (w + 0 * x[:, None], x), backward)
    with pytest.raises(GradientError, match=rf"^mine\(\): dx should be None: x holds {told}$"):
        check_layer(layer, torch.ones(3), x)


@pytest.mark.full
def test_a_small_sum_of_large_terms_is_no_kink():
    def backward(t, x, g):
        d = g * (1 - torch.tanh(t * x) ** 2)
        return d, (d * x).sum()  # dx lacks t, and the right dt is close to 0 here

    wrong = lf.Layer("mine()", lambda t, x: (torch.tanh(t * x), x), backward)
    report = check_layer(wrong, torch.tensor(0.7), lf.keys.normal(lf.Key(1), (4, 5)), all=True)
    assert [finding.verdict for finding in report.findings] == ["right", "wrong"]
    assert report.remarks == ()


def test_the_tip_of_an_absolute_value_does_not_hide_the_name():
    x = torch.tensor([0.0, 1.0, -2.0, 0.0])
    signs = lambda params, x, g: (g * torch.where(x <= 0, 1.0, -1.0).to(x), ())  # noqa: E731
    report = report_of(lf.Layer("mine()", lambda params, x: (x.abs(), x), signs), x)
    assert [mistake.name for mistake in report.mistakes] == ["sign"]


def test_a_gradient_that_has_a_name_already_is_judged_and_not_named():
    for named, names in ((frozenset(), ["derivative missing"]), (frozenset({"dx"}), [""])):
        report = run.checked(NO_TANH, (), X.double(), run.Options(all=True, named=named))
        assert [mistake.name for mistake in report.mistakes] == names


def test_the_default_dtype_stays():
    report_of(NO_TANH)
    assert torch.get_default_dtype() is torch.float32
