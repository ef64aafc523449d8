"""Whether values are right: of kernels, operators, modules, and pairs of numpy and jax."""

import importlib.util
import json
import math
import shlex
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from helpers import assert_says, normal
from helpers.refusals import refusals
from torch import nn
from torch.autograd import Function
from torch.nn import functional as F

import lincoln_fn as lf
from lincoln_fn.testing import GradientError, check_function, check_vjp
from lincoln_fn.testing.diagnosis import Finding, Report
from lincoln_fn.testing.functions.check import main, named, record_of
from lincoln_fn.testing.functions.function import function_of, shape_told
from lincoln_fn.testing.functions.trials import nan_in_new_memory, resized

X, W = normal(4, 8).float(), normal(8, seed=1).float()


def plain(x, w):
    return torch.sin(x) * w


class Kernel(Function):
    """A kernel that knows no float64."""

    factor = 1.0

    @staticmethod
    def forward(ctx, x, w):
        if x.dtype is torch.float64:
            raise TypeError("float32 or bfloat16")
        ctx.save_for_backward(x, w)
        return plain(x, w)

    @classmethod
    def gradients(cls, ctx, g):
        x, w = ctx.saved_tensors
        return cls.factor * g * w * torch.cos(x), (g * torch.sin(x)).sum(0)

    @staticmethod
    def backward(ctx, g):
        return Kernel.gradients(ctx, g)


class WrongKernel(Kernel):
    factor = 1.2

    @staticmethod
    def backward(ctx, g):
        return WrongKernel.gradients(ctx, g)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_kernel_without_float64_is_held_against_a_reference(dtype):
    x, w = X.to(dtype), W.to(dtype)
    assert check_function(Kernel, x, w, reference=plain, all=True).is_right
    with pytest.raises(GradientError, match=r"Kernel: dx is 1\.\d* times the derivative"):
        check_function(WrongKernel, x, w, reference=plain)
    with pytest.raises(GradientError, match="forward does not compute the reference's y"):
        check_function(Kernel, x, w, reference=lambda x, w: 2 * plain(x, w))


def test_without_a_reference_differences_in_float32_tell_gross_mistakes_and_a_remark_says_so():
    report = check_function(Kernel, X, W, all=True)
    assert report.is_right
    assert report.remarks == ("differences in float32 see no mistake below 5 %: give a reference",)
    assert_says("GradientError: dx is 1.2 times the derivative", check_function, WrongKernel, X, W)
    report = check_function(Kernel, X.bfloat16(), W.bfloat16(), all=True)
    assert [f.verdict for f in report.findings if f.leaf in ("dx", "dw")] == ["not judged"] * 2
    assert report.remarks == ("bfloat16 has too few digits: give a reference",)


@pytest.mark.parametrize("seed", [7, 15, 27])
def test_differences_in_float32_tell_a_gradient_that_is_right_by_chance_in_one_direction(seed):
    class Other(Kernel):
        @staticmethod
        def backward(ctx, g):
            dx, dw = Kernel.gradients(ctx, g)
            return dx.flip(0), dw

    assert_says("GradientError: dx is wrong", check_function, Other, X, W, key=lf.Key(seed))


def test_code_that_computes_in_float32_on_the_way_is_checked_in_float64():
    class Norm(Function):
        @staticmethod
        def forward(ctx, x, eps):
            norm = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps)
            ctx.save_for_backward(x, norm)
            return (x.float() * norm).to(x.dtype)

        @staticmethod
        def backward(ctx, g):
            x, norm = ctx.saved_tensors
            g = g.float()
            mean = (g * x.float()).mean(-1, keepdim=True)
            return (norm * g - norm**3 * x.float() * mean).to(x.dtype), None

    assert check_function(Norm, X, 1e-6, all=True).is_right


def test_names_are_those_of_the_parameters():
    module = nn.Linear(8, 3)
    assert function_of(module, (X,)).names == ("input", "weight", "bias")
    assert function_of(torch.ops.aten.mul.Tensor, (X, W)).names == ("self", "other")
    assert function_of(Kernel.apply, (X, W)).names == ("x", "w")
    asks = X.clone().requires_grad_()
    assert (function_of(plain, (asks, W)).which, function_of(plain, (X, W)).which) == ((0,), (0, 1))


def test_what_has_no_gradient_is_not_called_right():
    assert_says("GradientError: no output requires grad", check_function, lambda x: x.detach(), X)
    report = check_function(torch.fft.fft, X, all=True)
    told = [finding.sentence for finding in report.findings]
    assert (report.verdict, told) == ("not judged", ["fft_fft: no output is a floating tensor"])
    with pytest.raises(GradientError, match="could be judged: fft_fft: no output is a floating"):
        check_function(torch.fft.fft, X)
    with pytest.raises(GradientError, match="could be judged: bfloat16 has too few digits"):
        check_function(Kernel, X.bfloat16(), W.bfloat16())


test_an_error_says_what_to_write = refusals("""
check_function(torch.neg, torch.tensor([1])) -> neg: expected a floating tensor among
check_function(torch.cat, [X, X]) -> x0 = list; ... of the tensors: lambda a, b:
check_function(3, X) -> int: expected f to be a function, got 3
check_function(relu(), X) -> a Layer is judged by lf.testing.check_layer
check_function(Kernel, X) -> Kernel: forward raises TypeError: ... argument: 'w'; it was given x =
    float32[4, 8]
check_function(torch.sum, X.to_sparse()) -> expected x0 dense, in ... , got ... sparse_coo
check_function(Kernel, X, W, reference=lambda x: x) -> expected a reference of the same inputs, and
    it raises TypeError: ... ; it was given x = float32[4, 8]
check_function(lambda x: (x, 2 * x), X, reference=lambda x: x) -> expected the reference to return
    as many tensors as f, 2, got 1
check_function(Kernel, X, W, reference=lambda x, w: plain(x, w).detach()) -> expected a reference
    that autograd differentiates
""")


def test_a_pair_is_told_what_its_forward_has_to_return():
    with pytest.raises(
        lf.LayerError, match=r"expected forward to return \(y, saved\), got ndarray"
    ):
        check_vjp(lambda x: 2 * x, lambda saved, g: 2 * g, X.numpy())


def test_a_gradient_of_nan_is_named():
    class Nan(Kernel):
        @staticmethod
        def backward(ctx, g):
            dx, dw = Kernel.gradients(ctx, g)
            return dx * torch.nan, dw

    with pytest.raises(GradientError, match="Nan: dx holds 32 values that are not finite"):
        check_function(Nan, X, W)


def test_a_sparse_gradient_is_named_in_a_function_and_in_a_layer():
    rows = partial(F.embedding, sparse=True)
    with pytest.raises(GradientError, match=r"partial: expected dweight dense, got .*sparse_coo"):
        check_function(rows, torch.tensor([1, 2]), normal(5, 3).float())
    layer = lf.Layer(
        "mine", lambda w, x: (x @ w, x), lambda w, x, g: (g @ w.mT, (x.mT @ g).to_sparse())
    )
    with pytest.raises(GradientError, match=r"mine: expected dparams dense, got .*sparse_coo"):
        lf.testing.check_layer(layer, normal(8, 3), X)


def test_a_note_is_told_from_what_was_found():
    printed = str(check_function(Kernel, X, W, all=True))
    assert printed.endswith(
        "\n  note: differences in float32 see no mistake below 5 %: give a reference"
    )


def test_what_is_right_is_right_where_torch_is_set_otherwise():
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            assert check_function(F.gelu, X * 1, all=True).is_right
    report = check_function(F.gelu, X[:0], all=True)
    assert not [remark for remark in report.remarks if "not tried" in remark]


def test_a_warning_at_other_sizes_is_not_the_callers():
    def deviation(x):
        if x.shape != X.shape:
            warnings.warn("another shape", stacklevel=1)
        return x.std(-1)

    report = check_function(deviation, X, all=True)
    assert report.is_right
    assert not [remark for remark in report.remarks if "not tried" in remark]


def test_what_draws_in_place_draws_from_the_seed():
    f = function_of(nn.Dropout(inplace=True), (X,))
    assert torch.equal(f.run(seed=1).y[0], f.run(seed=1).y[0])
    assert not torch.equal(f.run(seed=1).y[0], f.run(seed=2).y[0])


def test_new_memory_is_nan_and_all_is_put_back_even_if_a_function_raises(monkeypatch):
    settings, is_strict = torch.utils.deterministic, torch.are_deterministic_algorithms_enabled
    monkeypatch.setattr(settings, "fill_uninitialized_memory", False)
    of_numpy = np.empty, np.empty_like

    def fails():
        assert torch.empty(100).isnan().all()
        assert np.isnan([np.empty(100), np.empty_like(np.ones(100))]).all()
        assert is_strict()
        return 1 / 0

    with pytest.raises(ZeroDivisionError), nan_in_new_memory():
        fails()
    assert not settings.fill_uninitialized_memory
    assert not is_strict()
    assert (np.empty, np.empty_like) == of_numpy


def affine(x, w, b):
    return x @ w + b, (x, w)


def affine_back(saved, g):
    x, w = saved
    return g @ w.T, x.T @ g, g.sum(0)


def changes_g(saved, g):
    found = affine_back(saved, g.copy())
    g[:] = 0
    return found


PAIRS = {
    "averaged": (lambda saved, g: (*affine_back(saved, g)[:2], g.mean(0)),
        "db is 4 times too small"),
    "not summed": (lambda saved, g: (*affine_back(saved, g)[:2], g),
        r"db is not summed over axis 0, which its input has not: shape \(4, 3\), expected \(3,\)"),
    "transposed": (lambda saved, g: (g @ saved[1].T, g.T @ saved[0], g.sum(0)),
        r"dw is transposed: shape \(3, 8\), expected \(8, 3\)"),
    "None": (lambda saved, g: (*affine_back(saved, g)[:2], None), "db is None, and y depends on b"),
    "too few": (lambda saved, g: affine_back(saved, g)[:2],
        "backward returns 2 gradients for 3 inputs"),
    "in place": (changes_g, "backward writes into g"),
}  # fmt: skip
ARRAYS = X.numpy(), normal(8, 3).float().numpy(), normal(3).float().numpy()


@pytest.mark.full(but=("averaged", "not summed", "in place"))
@pytest.mark.parametrize(("backward", "sentence"), PAIRS.values(), ids=PAIRS)
def test_a_pair_of_functions_of_numpy_is_checked(backward, sentence):
    with pytest.raises(GradientError, match=f"{backward.__name__} of affine: {sentence}"):
        check_vjp(affine, backward, *ARRAYS)


@pytest.mark.full
def test_a_right_pair_is_right_of_numpy_and_of_torch():
    report = check_vjp(affine, affine_back, *ARRAYS, all=True)
    assert (report.verdict, report.remarks) == ("right", ())
    check_vjp(affine, affine_back, *map(torch.from_numpy, ARRAYS))
    check_vjp(lambda x, n: (x * n, n), lambda n, g: g * n, ARRAYS[0], 3)
    check_vjp(affine, affine_back, *ARRAYS, reference=lambda x, w, b: x @ w + b)


def test_a_function_without_a_name_is_called_by_its_kind():
    report = check_vjp(affine, partial(affine_back), *ARRAYS, all=True)
    assert str(report).startswith("partial of affine: right")


@pytest.mark.full
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax")
def test_a_custom_vjp_of_jax_is_checked():
    import jax

    x, w = X.numpy(), W.numpy()

    def forward(x, w):
        return jax.numpy.sin(x) * w, (x, w)

    def backward(saved, g):
        x, w = saved
        return g * w * jax.numpy.cos(x), (g * jax.numpy.sin(x)).sum(0)

    def wrong(saved, g):
        return -backward(saved, g)[0], backward(saved, g)[1]

    mine = jax.custom_vjp(lambda x, w: forward(x, w)[0])
    mine.defvjp(forward, backward)
    assert check_function(mine, x, w, all=True).is_right
    mine.defvjp(forward, wrong)
    assert_says("GradientError: dx has the wrong sign", check_function, mine, x, w)


@pytest.mark.parametrize(("got", "expected", "told"), [
    ((4, 5, 8), (5, 1), "is not summed over axes 0, 2"),
    ((7,), (8,), r"has shape (7,), expected (8,)"),
])  # fmt: skip
def test_a_shape_is_told_by_its_axes(got, expected, told):
    assert shape_told(got, expected).startswith(told)


def test_other_sizes_change_equal_axes_together_and_keep_indices_in_their_range():
    f = function_of(F.embedding, (torch.tensor([4, 0, 3]), normal(5, 2)))
    index, table = resized(f, 5, 2).inputs
    assert (table.shape, index.tolist()) == ((2, 2), [0, 0, 1])
    index, table = resized(f, 3, 4).inputs
    assert index.tolist() == [4, 0, 3, 4]


AFFINE = f"{__file__}:affine", "f32[4, 8], f32[8, 3], f32[3]"
REFERRED = "--reference", f"{__file__}:plain"
COMMANDS = {
    "module": ("torch.nn:LayerNorm(8)", "f32[4, 8]", (), []),
    "kernel": (f"{__file__}:Kernel", "f32[4, 8], f32[8]", REFERRED, []),
    "wrong kernel": (f"{__file__}:WrongKernel", "bf16[4, 8], bf16[8]", REFERRED, ["dx"]),
    "pair": (*AFFINE, ("--backward", f"{__file__}:affine_back"), []),
    "wrong pair": (*AFFINE, ("--backward", f"{__file__}:PAIRS['averaged'][0]"), ["db"]),
    "no reference": (f"{__file__}:Kernel", "bf16[4, 8], bf16[8]", (), None),
}


@pytest.mark.full(but=("[kernel]", "no reference"))
@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_prints_a_report_or_a_record_and_ends_with_the_verdict(name, capsys):
    function, inputs, more, wrong = COMMANDS[name]
    verdict, code = ("not judged", 2) if wrong is None else ("wrong", 1) if wrong else ("right", 0)
    arguments = [function, "--inputs", inputs, *more]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == code
    printed = capsys.readouterr().out
    assert all(f"  ✗ {leaf}: " in printed for leaf in wrong or ())
    again = shlex.join(["python", "-m", "lincoln_fn.testing", *arguments])
    assert printed.endswith(f"to see it again: {again}\n")
    with pytest.raises(SystemExit):
        main([*arguments, "--json"])
    record = json.loads(capsys.readouterr().out)
    assert record["verdict"] == verdict
    told = [each["leaf"] for each in record["findings"] if each["verdict"] == "wrong"]
    assert told == (wrong or [])


def test_the_command_says_what_it_expects_and_ends_with_2(capsys):
    assert named("torch.nn:LayerNorm(8)").normalized_shape == (8,)
    for function, inputs, told in (
        ("torch.sin", "f32[3]", "expected package.module:name"),
        ("torch:sin", "f33[3]", "expected a number, None, or a tensor"),
        ("torch:no_such", "f32[3]", "NameError: name 'no_such' is not defined"),
        ("no_such.py:f", "f32[3]", "No such file"),
        ("torch:sin", "i64[3]", "expected a floating tensor among the inputs"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([function, "--inputs", inputs])
        assert ended.value.code == 2
        assert told in capsys.readouterr().err


def test_a_record_is_json_where_an_error_is_not_finite():
    finding = Finding("", "f", "dx", "wrong", error=math.inf)
    record = json.loads(record_of(Report("f", (finding,)), "again"), parse_constant=pytest.fail)
    assert record["findings"][0]["error"] is None


def test_memory_of_numpy_that_nobody_wrote_is_told():
    def forward(x):
        return x * x, x

    def backward(x, g):
        dx = np.empty(x.shape)
        dx[:-1] = 2 * x[:-1] * g[:-1]
        return dx

    with pytest.raises(GradientError, match="is a buffer read, or returned, where it was not"):
        check_vjp(forward, backward, X.double().numpy())
