"""The table of torch's vocabulary leaves nothing unsaid."""

import inspect
import re
import runpy
from operator import attrgetter

import pytest
import torch
from helpers.cases.case import normal

import lincoln_fn as lf
from lincoln_fn.errors.descriptions import HABITS
from lincoln_fn.vocabulary import listed, missing_name, peers, table


def test_each_of_torchs_names_has_a_counterpart_or_a_reason():
    assert [row.theirs for row in table() if not row.ours and not row.reason] == []


@pytest.mark.skipif(torch.__version__ < "2.13", reason="an older torch has fewer names")
def test_nothing_is_said_of_names_that_torch_does_not_have_or_that_have_a_counterpart():
    told = [*listed("nn", "optim")]
    assert len(told) > 40
    assert {row.theirs for row in told} <= {row.theirs for row in table()}
    assert [row for row in told if row not in table()] == []


@pytest.mark.parametrize(
    ("home", "name", "told"),
    [
        (lf, "Linear", "; torch.nn.Linear is lf.dense here"),
        (lf.optim, "Adam", "; torch.optim.Adam is lf.optim.adam here"),
        (lf.losses, "CrossEntropyLoss",
         "; torch.nn.CrossEntropyLoss is lf.losses.softmax_cross_entropy here"),
        (lf, "Module", "; torch.nn.Module is left out here: holds modules; params are plain tuples"
         " and records here"),
        (lf, "nn", "; layers stand in lf itself, such as lf.dense"),
        (lf, "mse", "; write lf.losses.mse"),
        (lf.optim, "relu", "; write lf.relu"),
        (lf, "max", "; torch.max is lf.amax here"),
        (lf, "linear", "; torch.nn.functional.linear is lf.dense here, and lf.schedules.linear"
         " something else"),
        (lf.losses, "crossentropy", "; write lf.losses.cross_entropy"),
        (lf, "no_grad", "; nothing to write: no function here records what autograd would need"),
        (lf, "manual_seed",
         "; write key = lf.Key(0), an argument of each function that draws"),
        (lf.losses, "bce",
         "; write lf.losses.log_loss, or lf.losses.sigmoid_cross_entropy on logits"),
        (lf.schedules, "StepLR", "; write lf.schedules.piecewise(lrs, boundaries)"),
        (lf, "Callable", ""),  # which metrics imports
        (lf, "nonsense", ""),
        (lf, "__wrapped__", ""),
    ],
)  # fmt: skip
def test_a_name_that_is_not_here_answers_with_ours(home, name, told):
    with pytest.raises(AttributeError) as caught:
        getattr(home, name)
    assert str(caught.value) == f"module {home.__name__!r} has no attribute {name!r}{told}"
    assert not hasattr(home, name)


def test_torchs_functions_have_counterparts_that_exist():
    functions = [*listed("nn.functional")]
    assert len(functions) > 15
    for row in functions:
        assert callable(attrgetter(row.theirs)(torch))
        assert callable(attrgetter(row.ours)(lf))


def test_what_is_to_be_written_in_place_of_a_habit_exists():
    homes = {home.__name__: home for home in (lf.Layer, lf.optim.Optimizer, lf)}
    homes |= {home.__name__: home for home in (lf.losses, lf.schedules)}
    for owner, texts in HABITS.items():
        for name, text in texts.items():
            assert not hasattr(homes[owner], name), (owner, name)
            for path in re.findall(r"\blf\.([\w.]+)", text):
                assert callable(attrgetter(path)(lf)), text
            for path in re.findall(r"\btorch\.([\w.]+)", text):
                assert hasattr(torch, path), text


def test_every_torch_name_answers_where_a_user_would_write_it():
    for row in table():
        package, _, name = row.theirs.partition(".")
        home = lf.optim if package == "optim" else lf
        if hasattr(home, name):  # a name that we have too, such as Optimizer
            continue
        answer = str(missing_name(home.__name__, name))
        assert answer.endswith(f"is lf.{row.ours} here" if row.ours else row.reason), row


def test_each_name_of_another_library_has_a_counterpart_that_exists_or_a_reason():
    rows = {row.theirs: row for row in peers()}
    assert len(rows) == len(peers())
    homes = {name.partition(".")[0] for name in rows}
    assert homes == {"optax", "torchmetrics", "GenerationConfig"}
    for row in rows.values():
        path, _, arguments = row.ours.partition("(")
        assert row.reason if not row.ours else callable(attrgetter(path)(lf)), row
        for argument in re.findall(r"(\w+)=", arguments):
            assert argument in inspect.signature(attrgetter(path)(lf)).parameters, row
        for named in re.findall(r"\b[a-z]+\.\w+", row.reason):
            assert callable(attrgetter(named)(lf)), row


# It is imported here already, of which runpy warns.
@pytest.mark.filterwarnings("ignore:'lincoln_fn.vocabulary' found in sys.modules:RuntimeWarning")
def test_the_command_prints_a_row_a_name(capsys):
    runpy.run_module("lincoln_fn.vocabulary", run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(table()) + len(peers()) + 2
    assert "lf.conv2d" in "".join(lines)


def test_max_unpool_is_made_as_its_reason_says():
    unpool = lf.interop.from_function(lambda pair: torch.nn.functional.max_unpool2d(*pair, 2))
    net, x = lf.serial(lf.max_pool2d(2, return_indices=True), unpool), normal(2, 3, 4, 6)
    windows = x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
    is_largest = x == windows.repeat_interleave(2, 2).repeat_interleave(2, 3)
    y, cache = net.forward(((), ()), x)
    assert torch.equal(y, x * is_largest)
    dx, _ = net.backward(((), ()), cache, torch.ones_like(y))
    assert torch.equal(dx, is_largest.to(x.dtype))
