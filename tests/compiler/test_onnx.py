"""ONNX files: what onnxruntime computes from them is what the library computes."""

import functools

import optree
import pytest
import torch
import torch.nn.functional as F
from helpers import CASES, FIRST, MSE, SGD, assert_says, begin, copied, normal
from helpers.compare import same_bits, same_number
from helpers.graphs import column_major
from helpers.losses import TABLE
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.compiler.onnx.program import Names, model_of
from lincoln_fn.compiler.onnx.writer import OfBatch, UnknownOperationError, fit
from lincoln_fn.compiler.tracing import Program
from lincoln_fn.recording import flatten

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

IMAGES, LABELS = normal(6, 1, 8, 8), torch.tensor([0, 2, 1, 1, 2, 0])
WORDS = torch.tensor([[0, 2, 1, 3], [3, 3, 0, 1], [1, 2, 2, 0], [0, 1, 0, 2], [3, 2, 1, 0]])
CE = lf.losses.softmax_cross_entropy
STEPS = {
    "mlp": (
        lf.serial(lf.dense(7), lf.gelu(), lf.dropout(0.2), lf.dense(3)),
        CE(), lf.optim.adamw(lf.schedules.cosine(0.01, 9)), normal(6, 5), LABELS,
    ),
    "convolutions": (
        lf.serial(
            lf.conv2d(4, 3, padding=1), lf.relu(), lf.max_pool2d(2), lf.batch_norm(),
            lf.conv2d(3, 3, stride=2, padding=1), lf.max_pool2d(2, stride=1), lf.flatten(),
            lf.dense(3),
        ),
        CE(), lf.optim.sgd(0.05, momentum=0.9, nesterov=True), IMAGES, LABELS,
    ),
    "lstm": (
        lf.serial(lf.embedding(4, 5), lf.lstm(6), lf.last_state(), lf.dense(3)),
        CE(), lf.optim.rmsprop(0.01), WORDS, torch.tensor([0, 2, 1, 1, 2]),
    ),
    "transformer": (
        lf.serial(
            lf.embedding(4, 8), lf.positional_embedding(4),
            lf.transformer_encoder_block(2, 16, is_causal=True), lf.dense(4), lf.permute(0, 2, 1),
        ),
        CE(label_smoothing=0.1),
        lf.optim.chain(lf.optim.clip_by_global_norm(0.5), lf.optim.sgd(0.1)), WORDS, WORDS,
    ),
    "regression": (
        lf.serial(lf.dense(4, bias=False), lf.softplus(), lf.dense(1, bias=False)),
        lf.losses.huber(), lf.optim.adam(0.02), normal(6, 5), normal(6, 1, seed=2),
    ),
}  # fmt: skip

# These solve a linear system on the way back, unless they are told to iterate.
SOLVING = {
    name
    for name in (case.layer.name for case in CASES)
    if name.startswith("fixed_point") and "solver='iteration'" not in name
}


# The first configurations have all operations of the table but a few, which these have. By hand,
# `exported_sweep.py` trains every configuration.
OTHERS = [
    case for case in CASES
    if str(case).startswith(
        ("dense(4)-3", "masked(transformer", "ode(serial(concat", "batch_norm(momentum=None)-5x3",
         "attention_heads(4, num_kv_heads=2, is_causal=True, sliding_window=2)-")
    )
]  # fmt: skip


def session_of(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    given = model if isinstance(model, str) else model.SerializeToString()
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def feeds_of(session, names, leaves):
    """Give a model the tensors that it reads; a constant result needs none."""
    read = {node.name for node in session.get_inputs()}
    return {name: leaf.numpy() for name, leaf in zip(names, leaves, strict=True) if name in read}


def check_steps(net, loss, optimizer, batches, folder, state=None):
    """Take steps here and in onnxruntime, and compare the states."""
    step, first = begin(net, batches[0][0], loss, optimizer)
    state, path = state or first, str(folder / "step.onnx")
    lf.export_step(step, state, batches[0], path)
    session = session_of(path)
    named = lf.tree.paths(state, states=True)
    returned = [node.name for node in session.get_outputs()]
    assert returned == [*(f"next.{name}" for name in named), "loss"]
    theirs = {}  # at first, the initial state, which the file holds
    for x, target in batches:
        feeds = {"x": x.numpy(), "target": target.numpy()}
        *new, value = session.run(None, {**theirs, **feeds})
        theirs = dict(zip(named, new, strict=True))
        state, ours = step(state, (x, target))
        assert same_number(torch.as_tensor(value), ours)
    leaves = lf.tree.leaves(state, states=True)
    for leaf, name in zip(leaves, named, strict=True):
        assert same_number(torch.as_tensor(theirs[name]), leaf, error=1e-5), name
    assert same_bits(torch.as_tensor(theirs["key.bits"]), state.key.bits)


@pytest.mark.full(but=("regression",))
@pytest.mark.parametrize("name", STEPS)
def test_steps_in_onnxruntime_are_eager_steps(name, tmp_path):
    """The file has no node twice, and none that nothing reads."""
    net, loss, optimizer, x, target = STEPS[name]
    batches = (x, target), (x, target), (x[1:4], target[1:4]), (x.flip(0), target)
    check_steps(net, loss, optimizer, batches, tmp_path)
    graph = onnx.load(tmp_path / "step.onnx").graph
    read = {name for node in graph.node for name in node.input}
    results = {value.name for value in graph.output}
    assert all(results.union(read).intersection(node.output) for node in graph.node)
    nodes = [(node.op_type, *node.input, *map(str, node.attribute)) for node in graph.node]
    assert len(nodes) == len(set(nodes))
    assert read >= {tensor.name for tensor in graph.initializer} - results
    # Only what a step leaves as it was is copied: every other result has its node's name.
    named = {name.removeprefix("next.") for name in results}
    assert {node.input[0] for node in graph.node if node.op_type == "Identity"} <= named


def check_both_ways(pure, first, second):
    """Run a function of two trees here and in onnxruntime, and compare what they return."""
    expected, _ = pure(first, second)
    program = Program("layer", "layer", "y", pure, pure)
    ours, theirs = flatten(first)[0], flatten(second)[0]
    names = [
        [f"{kind}{i}" for i in range(n)]
        for kind, n in (("p", len(ours)), ("b", len(theirs)), ("o", len(expected) + 1))
    ]
    model = model_of(program, first, second, Names(*names), dynamic_batch=False)
    session = session_of(model)
    *found, _ = session.run(None, feeds_of(session, names[1], theirs))
    assert same_number([torch.as_tensor(leaf) for leaf in found], expected, error=1e-5)


def layer_both_ways(layer, params, batch):
    """Run a layer there and back, and give everything that it returns, and no number."""
    x, g = batch
    y, cache = layer.forward(params, x)
    made = y, layer.backward(params, cache, g), layer.advance(params, cache)
    return [leaf for leaf in flatten(made)[0] if leaf is not None], torch.zeros(())


@pytest.mark.full(but=("conv_transpose2d", "max_pool2d(2)", "group_norm"))
@pytest.mark.parametrize("case", [*FIRST, *OTHERS], ids=str)
def test_every_layers_gradients(case):
    params, (y, _) = case.params(), case.layer.forward(case.params(), case.x)
    g = optree.tree_map(lambda leaf: normal(*leaf.shape, seed=3).to(leaf.dtype), y)
    pure = functools.partial(layer_both_ways, case.layer)
    if case.layer.name in SOLVING:  # ONNX has no such operation
        assert_says("_linalg_solve_ex", check_both_ways, pure, params, (case.x, g))
        return
    check_both_ways(pure, params, (case.x, g))


OPTIMIZERS = [
    lf.optim.adadelta(), lf.optim.adagrad(0.1), lf.optim.adam(0.1, amsgrad=True),
    lf.optim.adamax(0.1), lf.optim.asgd(0.1), lf.optim.lion(0.01), lf.optim.nadam(0.1),
    lf.optim.radam(0.1), lf.optim.rmsprop(0.1, centered=True, momentum=0.5), lf.optim.rprop(0.1),
    lf.optim.chain(lf.optim.accumulate(2), lf.optim.sgd(0.1)),
    lf.optim.chain(lf.optim.ema(0.9), lf.optim.sgd(0.1)),
    lf.optim.by_path({"*.bias": lf.optim.sgd(0.1), "*": lf.optim.adam(0.1)}),
    lf.optim.chain(lf.optim.clip_by_value(0.1), lf.optim.weight_decay(0.1), lf.optim.sgd(0.1)),
    lf.optim.sgd(
        lf.schedules.joined(
            [lf.schedules.linear(0.0, 0.1, 2), lf.schedules.exponential(0.1, 0.5)], [2]
        )
    ),
]  # fmt: skip


SMALL_NET = lf.serial(lf.dense(4), lf.tanh(), lf.dense(2))
BATCH = normal(6, 5), normal(6, 2, seed=1)


@pytest.mark.full
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_every_optimizers_steps(optimizer, tmp_path):
    check_steps(SMALL_NET, MSE, optimizer, [BATCH] * 5, tmp_path)


@pytest.mark.full
def test_a_column_major_weight_is_trained_alike(tmp_path):
    optimizer = lf.optim.adamw(0.1)
    state = column_major(begin(SMALL_NET, BATCH[0], MSE, optimizer)[1])
    check_steps(SMALL_NET, MSE, optimizer, [BATCH] * 3, tmp_path, state)


def loss_both_ways(loss, prediction, target):
    value, cache = loss.forward(prediction, target)
    return [value, *flatten(loss.backward(cache))[0]], torch.zeros(())


LABELLED = (
    torch.tensor([[1, 1], [2, 1], [2, 7], [-1, 0]]),
    *map(torch.tensor, ([5, 3, 4, 2], [2, 2, 1, 0])),
)
LOSSES = [(row.loss("mean"), row.prediction, row.target) for row in TABLE]
LOSSES += [(lf.losses.ctc(), normal(5, 4, 3, seed=20).log_softmax(-1), LABELLED)]


@pytest.mark.full(but=("huber",))
@pytest.mark.parametrize(("loss", "prediction", "target"), LOSSES, ids=[*map(str, TABLE), "ctc"])
def test_every_losss_gradient(loss, prediction, target):
    check_both_ways(functools.partial(loss_both_ways, loss), prediction, target)


def test_a_prediction_takes_any_number_of_examples(tmp_path):
    net, x = lf.serial(lf.conv2d(4, 3), lf.max_pool2d(2), lf.flatten(), lf.dense(3)), IMAGES
    params, path = net.init(lf.Key(0), x), str(tmp_path / "predict.onnx")
    lf.export(net, params, x, path)
    session = session_of(path)
    for given in (x, x[:1], torch.cat([x, x, x])):
        (y,) = session.run(["y"], {"x": given.numpy()})
        assert same_number(torch.as_tensor(y), net.predict(params, given))
    # The parameters may be others: they are inputs, too.
    others = net.init(lf.Key(1), x)
    named = dict(zip(lf.tree.paths(others), lf.tree.leaves(others), strict=True))
    feeds = {f"params.{name}": leaf.numpy() for name, leaf in named.items()}
    (y,) = session.run(["y"], {"x": x.numpy(), **feeds})
    assert same_number(torch.as_tensor(y), net.predict(others, x))


def masked_words(ids, *, table):
    """Read, mask and mix words in torch's spelling."""
    h = table[ids] * (ids != 0)[..., None] + torch.linspace(0, 1, 4)
    a, b = h.roll(1, 1).chunk(2, -1)
    scores = torch.einsum("bid,bjd->bij", a, b).masked_fill((ids == 0)[:, None], float("-inf"))
    return torch.cat([F.softmax(scores, -1) @ h, h[:, ::2].repeat(1, 2, 1)], 1).flatten(1)


@pytest.mark.full
def test_a_graph_in_torchs_spelling_is_exported(tmp_path):
    net = lf.graph(masked_words, init=lambda key, x: {"table": lf.keys.normal(key, (4, 4))})
    params, path = net.init(lf.Key(0), WORDS), str(tmp_path / "predict.onnx")
    lf.export(net, params, WORDS, path)
    (y,) = session_of(path).run(["y"], {"x": WORDS.numpy()})
    assert same_number(torch.as_tensor(y), net.predict(params, WORDS))


@pytest.mark.full
def test_defaults_may_have_a_file_of_their_own(tmp_path):
    net, loss, optimizer, x, target = STEPS["regression"]
    step, state = begin(net, x, loss, optimizer)
    path, defaults = str(tmp_path / "step.onnx"), str(tmp_path / "state.onnx")
    lf.export_step(step, state, (x, target), path, defaults=defaults)
    session, values = session_of(path), session_of(defaults)
    names = [node.name for node in values.get_outputs()]
    assert names == lf.tree.paths(state, states=True)
    assert session.get_overridable_initializers() == []  # JavaScript could not replace any
    assert [node.name for node in session.get_inputs()] == [*names, "x", "target"]
    given = values.run(None, {})
    assert same_bits([torch.as_tensor(leaf) for leaf in given], lf.tree.leaves(state, states=True))
    feeds = {**dict(zip(names, given, strict=True)), "x": x.numpy(), "target": target.numpy()}
    value = torch.as_tensor(session.run(["loss"], feeds)[0])
    assert same_number(value, step(state, (x, target))[1])
    lf.export(net, state.params, x, path, defaults=defaults)
    named = {f"params.{name}" for name in lf.tree.paths(state.params)}
    assert {node.name for node in session_of(defaults).get_outputs()} == named
    assert {node.name for node in session_of(path).get_inputs()} == {*named, "x"}
    message = "expected params for the file of defaults, got none"
    assert_says(message, lf.export, lf.relu(), (), x, path, defaults=defaults)


@pytest.mark.full
def test_a_step_with_donate_leaves_the_state_as_it_was(tmp_path):
    net, loss, optimizer, x, target = STEPS["regression"]
    step, state = begin(net, x, loss, optimizer, donate=True)
    before = copied(state)
    lf.export_step(step, state, (x, target), tmp_path / "step.onnx")
    assert same_bits(state, before)


def test_a_prediction_is_saved_for_torch_too(tmp_path):
    net, x = lf.serial(lf.dense(4), lf.tanh()), normal(6, 5)
    params, path = net.init(lf.Key(0), x), tmp_path / "predict.pt2"
    lf.export(net, params, x, path)
    program = torch.export.load(path).module()
    y, *_ = program(*lf.tree.leaves(params), x)
    assert same_number(y, net.predict(params, x))


@pytest.mark.full
def test_a_fixed_batch_needs_no_common_axis(tmp_path):
    x, target, path = normal(5), normal(3, seed=1), str(tmp_path / "step.onnx")
    step, state = begin(lf.dense(3), x, MSE)
    message = "expected examples along the first axis"
    assert_says(message, lf.export_step, step, state, (x, target), path)
    lf.export_step(step, state, (x, target), path, dynamic_batch=False)
    value = session_of(path).run(["loss"], {"x": x.numpy(), "target": target.numpy()})[0]
    assert same_number(torch.as_tensor(value), step(state, (x, target))[1])


def exported(path, net=SMALL_NET, optimizer=SGD, **options):
    lf.export_step(*begin(net, BATCH[0], MSE, optimizer), BATCH, path, **options)


test_what_a_format_cannot_do_is_refused = refusals("""
exported('step.bin') -> ^export_step: expected a path that ends in .onnx or .pt2, got step.bin
exported('step.pt2', dynamic_batch=True) -> expected dynamic_batch=False for a .pt2 program
exported('step.pt2', defaults='s.onnx') -> expected two paths that end in .onnx, got step
exported('step.onnx', defaults='s.pt2') -> got step.onnx and s.pt2
exported('step.onnx', defaults='./step.onnx') -> got step.onnx and step.onnx
exported('step.onnx', defaults=True) -> defaults to be a file's path or None, got True
exported('step.onnx', dense(2, bias=False), lf.optim.muon(0.1)) -> muon(0.1)): cannot become ONNX:
    numbers of torch.bfloat16 have no counterpart
""")


def test_numbers_of_the_batch_size_are_found():
    batches = 6, 8, 15
    assert fit([3, 3, 3], batches) == 3
    assert fit([19, 25, 46], batches) == OfBatch(3, 1)
    assert fit([1 / 12, 1 / 16, 1 / 30], batches) == OfBatch(2, 0, -1)
    assert fit([12 / 11, 16 / 15, 30 / 29], batches) == OfBatch(2, -1, -1, 1)
    thirds = [torch.tensor(1 / (3 * n)).item() for n in batches]  # rounded to float32
    assert fit(thirds, batches, 1e-6) == OfBatch(3, 0, -1)
    with pytest.raises(UnknownOperationError, match=r"\[36, 64, 225\] for batches of \(6, 8, 15\)"):
        fit([36, 64, 225], batches)
    for values, at in ((["mean", "mean", "sum"], batches), ([3 // 2, 5 // 2, 9 // 2], (3, 5, 9))):
        assert_says("UnknownOperationError: for batches of", fit, values, at)


def operations(write):
    """Make a pair of trees into a function of the second one's tensors, for `check_both_ways`."""

    def pure(_, given):
        return list(write(*given)), torch.zeros(())

    return pure


WHOLE = torch.tensor([[5, -7, 0], [1, 2, -1]])
SMALL = [torch.bool, torch.uint8, torch.int8, torch.int16]


@pytest.mark.full(but=("torch.int8]",))
@pytest.mark.parametrize("dtype", [*SMALL, torch.int32, torch.float16], ids=str)
def test_numbers_of_few_bits(dtype):
    def every(x, y):
        return (
            x.amax(1, keepdim=True), x.min(), *x.max(-1), torch.maximum(x, y),
            torch.where(x > y, x, y), x.any(0), x.all(), x == 1, x.sign(), x.isinf(), x.isnan(),
            x + y,
        )  # fmt: skip

    def integers(x, y):
        return (
            x // 3, x % 3, x.square(), x @ y.T, x >> 1, x << 3, x.ceil(), x.trunc(), -x,
            x.argmin(0), x.clamp(y, y),
        )  # fmt: skip

    x = WHOLE.abs().to(dtype) if dtype is torch.uint8 else WHOLE.to(dtype)
    check_both_ways(operations(every), [], [x, x.flip(0)])
    if dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        check_both_ways(operations(integers), [], [x, x.flip(0)])


def test_quotients_and_remainders_round_as_torchs():
    a = torch.tensor([1.0, -1.0, 0.6, 7.0, -7.0, 3.0, 0.0, torch.inf, 1.0, -1.0])
    b = torch.tensor([0.1, 0.1, -0.2, -0.7, 2.0, 0.0, 2.0, 1.0, torch.inf, torch.inf])

    def quotients(a, b):
        made = a // b, a % b, torch.fmod(a, b), torch.div(a, b, rounding_mode="trunc")
        return [torch.where(quotient.isnan(), 77.0, quotient) for quotient in made]

    check_both_ways(operations(quotients), [], [a, b])


@pytest.mark.parametrize("n", [0, 31, 62, 63])
def test_shifts_of_64_bits(n):
    x = torch.tensor([2**62 + 1, -(2**62) - 3, -1, 0, 2**63 - 1, -(2**63)])
    check_both_ways(operations(lambda x: (x >> n, x << n)), [], [x])


def test_tensors_without_axes_or_numbers():
    def along(x):
        return x.cumsum(0), x.argmax(0, keepdim=True), *x.min(0), x.flip(0), x.softmax(0), x.amax(0)

    def reduced(x):
        return x.any(), x.all(0), x.sum(), x.prod(1), x.any(1, keepdim=True)

    def norms(x):
        orders = 0, 1, 2, 2.5, -1, torch.inf, -torch.inf
        return [torch.linalg.vector_norm(x, order, 1) for order in orders]

    check_both_ways(operations(norms), [], [normal(2, 3)])
    check_both_ways(operations(along), [], [torch.tensor(2.5)])
    check_both_ways(operations(reduced), [], [torch.zeros(0, 3)])
    check_both_ways(operations(lambda x: [x.argmax(keepdim=True)]), [], [normal(2, 3)])


def operations_of(path):
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.full
def test_pooling_is_exported_before_a_relu(tmp_path):
    net = lf.serial(lf.conv2d(4, 3), lf.relu(), lf.max_pool2d(2), lf.flatten(), lf.dense(3))
    (step, state), path = begin(net, IMAGES), tmp_path / "step.onnx"
    lf.export_step(step, state, (IMAGES, LABELS), path)
    operations = operations_of(path)
    assert operations.index("MaxPool") < operations.index("Relu")
    lf.export(net, state.params, IMAGES, path)
    operations = operations_of(path)
    assert operations.index("MaxPool") < operations.index("Relu")
    assert "Mod" not in operations  # which makes places, that a prediction does not read


@pytest.mark.full
@pytest.mark.parametrize("options", [{}, {"stride": 3}, {"stride": 1}, {"padding": 1}])
def test_windows_apart_and_overlapping_are_exported(options, tmp_path):
    net = lf.serial(lf.conv2d(2, 3, padding=1), lf.max_pool2d(2, **options), lf.flatten())
    net = lf.serial(net, lf.dense(3))
    images = (3 * IMAGES).round()  # several numbers of a window are the largest
    check_steps(net, CE(), lf.optim.sgd(0.1), [(images, LABELS)] * 2, tmp_path)


def test_a_cosine_in_float64_is_a_sine(tmp_path):
    optimizer = lf.optim.sgd(lf.schedules.cosine(0.1, 4))
    check_steps(lf.dense(2), MSE, optimizer, [BATCH] * 4, tmp_path)
    operations = operations_of(tmp_path / "step.onnx")
    assert "Sin" in operations
    assert "Cos" not in operations


def of_any_batch(write, x):
    """Convert a function of a batch, and give what runs it in onnxruntime."""

    def pure(_, x):
        return [write(x)], torch.zeros(())

    program = Program("layer", "layer", "y", pure, pure)
    names = Names(["p"], ["x"], ["y"])
    session = session_of(model_of(program, [torch.ones(1)], x, names, dynamic_batch=True))
    return lambda x: torch.as_tensor(session.run(["y"], {"x": x.numpy()})[0])


OF_BATCH = (
    *(lambda x: x * torch.tensor(len(x)), lambda x: x * torch.tensor(1 / len(x))),
    *(lambda x: x.var(0), lambda x: x[1:].var()),
)


@pytest.mark.parametrize("write", OF_BATCH)
def test_numbers_of_a_batch_are_those_of_the_batch_at_hand(write):
    x = normal(6, 5)
    run = of_any_batch(write, x)
    for given in (x, x[:3], torch.cat([x, x])):
        assert same_number(run(given), write(given))


X = normal(6, 5)
test_what_has_no_counterpart_is_refused = refusals("""
of_any_batch(lambda x: x * torch.tensor([float(len(x)), 1.0])[0], X) -> a constant tensor depends on
of_any_batch(lambda x: x.scatter_reduce(0, torch.zeros_like(x).long(), x, 'sum', include_self=False
    ), X) -> scatter_reduce.two has no counterpart with include_self=False
of_any_batch(lambda x: x.round(decimals=1), X) -> has no counterpart with decimals=1
of_any_batch(lambda x: x * (x.long() >> 64), X) -> a constant n below 64
""")
