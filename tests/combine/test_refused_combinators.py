"""Whatever a combinator does not take is refused: the code, and what its error says."""

import torch
from helpers import loops, normal
from helpers.compositions import run
from helpers.refusals import refusals

import lincoln_fn as lf

KEY = lf.Key(0)
X, PARAMS = normal(6, 3), lf.dense(4).init(KEY, normal(6, 3))
S, H, MASK, OWN = loops.SEQUENCE, loops.STATE, loops.MASK, loops.OWN
Q, M, N = normal(2, 5, 6), normal(2, 4, 6, seed=1), normal(2, 4, 3, seed=2)
T = normal(3, 7, 5)  # tokens of experts
FIELD = lf.serial(lf.dense(4), lf.tanh(), lf.dense(3))
IN_TIME = lf.serial(lf.concatenate(), lf.dense(3))
D, CELL, RNN = lf.dense(4), lf.rnn_cell(4), lf.rnn_cell(5)
ENCODER, DECODER = lf.transformer_encoder_block(2, 7, 0.0), lf.transformer_decoder_block(2, 7, 0.0)
REV, LINEAR = lf.reversible((lf.dense(3), lf.tanh())), lf.graph(lambda x, *, w: x @ w)
MINE = lf.Layer("mine()", lambda params, x: (x, None), print)
NOISY = MINE.replace(name="noisy()", predict=lambda params, x: x)
INNER = lf.serial(lf.dense(32), lf.tanh(), lf.dense(5))
LOW = lf.in_dtype(INNER, torch.bfloat16)
NET = lf.serial(lf.dense(4), lf.checkpointed(INNER), lf.residual(lf.tanh()))
FLOW = lf.coupling(lf.dense(2))
FAR = lf.rnn_cell(4, weight_init=lf.initializers.normal(5.0))
LOGITS = normal(3, 7, 4), normal(3, 7, 4, seed=1)
MOE = lf.mixture_of_experts(lf.dense(4, bias=False), (lf.swiglu(6),) * 4)
UNEVEN = lf.mixture_of_experts(lf.dense(2), (lf.dense(3), lf.dense(1)))


def back(layer, x, g=None, cache=None):
    params, _, own, drawn = run(layer, x)
    return layer.backward(params, own if cache is None else cache, drawn if g is None else g)


def whole(x, **more):
    return x


test_what_does_not_fit_is_refused = refusals("""
residual(D).forward((PARAMS, ()), X) -> ^residual[2] add(): expected inputs of one
residual(D).forward(PARAMS, X) -> ^residual: expected params with 2 entries, got Params(
parallel(D).forward((PARAMS,), X) -> ^parallel: expected x with 1 entry, got float32[6, 3]
parallel(D).forward(((),), (X,)) -> ^parallel[0] dense(4): expected params dense.Params, got ()
shared(D).forward(PARAMS, X) -> ^shared: expected x to be a tuple of inputs, got float32[6, 3]
shared(D).forward(PARAMS, (X, X.double())) -> ^shared[0] dense(4): expected x of dtype
frozen(D).forward(PARAMS, X) -> ^frozen: expected params frozen.FrozenParams, got Params(
checkpointed(D).forward(PARAMS, X[:, :2]) -> ^checkpointed[0] dense(4): expected x of shape
run(add(), (X, X[:2])) -> ^add: expected inputs of one shape, got (6, 3), (2, 3)
run(add(), X) -> ^add: expected x to be a tuple of tensors, got float32[6, 3]
multiply().forward((), (X, X.double())) -> ^multiply: expected x[1] of dtype torch.float32, got
run(concatenate(), (X, X[:2])) -> ^concatenate: expected shapes alike but for axis -1, got
back(branch(D, D), X, g=X) -> branch[2] add(): expected g of shape
back(branch(D, D), X, cache=()) -> branch: expected the cache with 3 entries
back(checkpointed(D), X, cache=X) -> checkpointed: expected the cache of its own
branch() -> branch: expected at least one of layers, got ()
tied(MINE, identity()).predict(((), ()), X) -> tied: expected params with a weight of shape
    (n_embeddings, n_features), got ()
tied(MINE, identity()).backward(((), ()), (None, X, X), X) -> tied[2] scores(): expected params with
    a weight
# coupling and inverse
inverse(dense(2), (), X) -> got dense(2), whose inverse is not
coupling(dense(2), dim=0) -> expected dim to be an axis behind the examples
FLOW.init(KEY, X[:, :1]) -> expected two features or more in axis -1, behind the examples, got shape
    (6, 1)
run(FLOW, (X[:, :2], torch.zeros(1))) -> expected log_det of shape (6,), one number for each
    example, got float32[1]
back(FLOW, X[:, :2], g=(X[:, :2], torch.ones(1))) -> expected g of shape (6,), got (1,)
back(FLOW, X[:, :2], g=X) -> coupling: expected g like y
inverse(serial(FLOW, FLOW), (PARAMS,), X) -> expected params with 2 entries
run(coupling(dense(3)), normal(2, 4)) -> ^coupling[0] dense(3): expected an output of shape (2, 4),
    for scale and shift, got (2, 3)
# fixed_point
run(fixed_point(CELL), X) -> fixed_point[0] rnn_cell(4)
run(fixed_point(serial(select(0), dense(2))), X) -> fixed_point[0] serial( ... expected its output
    to be like z
run(fixed_point(CELL), X[0]) -> x with a batch axis
run(serial(dense(3), fixed_point(FAR, shape=(4,), max_steps=7)), X) -> ^serial[1] fixed_point ...
    raise max_steps or tol
# in_dtype, inference and frozen
LOW.forward(LOW.init(KEY, X), X[:, :2]) -> in_dtype[0] serial[0] dense(32): expected x
back(LOW, X, cache=run(LOW, X)[2].cache) -> in_dtype: expected
inference(serial(dense(2), NOISY)) -> inference: noisy() ... no backward is known ... lf.map_layers
# masked, and what comes after it
masked(dense(2)).init(KEY, S) -> expected x to be (sequence, mask)
masked(dense(2)).init(KEY, (S, None)) -> expected x to be (sequence, mask)
masked(dense(2), masked_mean()) -> masked: expected masked_mean() behind masked
run(masked_mean(), X[0]) -> ^masked_mean: expected a sequence of shape (..., length, features), got
    (3,)
run(masked_mean(), S[:, :0]) -> ^masked_mean: expected a sequence of shape (..., length, features),
    got (4, 0, 3)
run(masked_mean(), (S, MASK.float())) -> ^masked_mean: expected a mask of bools of shape (4, 6)
run(masked_mean(), (S, MASK[:, :4])) -> ^masked_mean: expected a mask of bools of shape (4, 6)
run(masked_mean(), (S, MASK, MASK)) -> ^masked_mean: expected x to be a sequence or (sequence, mask)
run(last_state(), X[0]) -> ^last_state: expected a sequence of shape (..., length, features), got
    (3,)
# scan
run(scan(RNN), (S, H, None, None)) -> a sequence, (sequence, state) or (sequence, state, mask)
run(scan(RNN, dim=3), S) -> an axis dim=3
run(scan(RNN), S[:, :0]) -> at least one step in axis 1
run(scan(RNN, has_output=True), S) -> scan[0] rnn_cell(5): expected the cell to return (y_t, s_t)
run(scan(RNN), (S, H[:, :2])) -> scan[0] rnn_cell(5)
back(scan(RNN), (S, H), g=H) -> scan: expected g
run(scan(OWN), (S, H, MASK[:, :5])) -> scan: expected a bool mask of shape (4, 6), got bool
run(scan(OWN), (S, H, MASK.float())) -> a bool mask of shape (4, 6), got float32[4, 6]
run(scan(serial(select(0), permute(1, 0))), (S, H, MASK)) -> begin with the axes of the mask, (4,),
    got (3, 4)
# ode
ode(FIELD, (1.0, 1.0)) -> two different times t
run(ode(dense(2)), X) -> ode[0] dense(2): expected its output to be like z, float32[6, 3], got
run(ode(IN_TIME, time_dim=2), X) -> ode: expected x to have an axis dim=2
run(ode(identity()), ()) -> ode: expected x to be a tensor
back(ode(FIELD, adjoint='continuous'), X, cache=X) -> ode: expected the cache of its own forward
back(ode(FIELD, adjoint='continuous'), X, g=X[1:]) -> ode: expected g of shape
back(ode(FIELD), X, cache=X) -> ode: expected the cache with 10 entries
# reversible
reversible() -> at least one of blocks
reversible(tanh(), tanh()) -> expected blocks[0] to be
reversible((tanh(), 3)) -> expected blocks[0][1] to be a Layer
run(REV, X) -> an even number of features in axis -1
run(reversible((dense(3), tanh()), dim=2), X) -> an axis dim=2
run(REV, (X,)) -> a tensor or a tuple of two
run(serial(reversible((dense(3), dense(2)))), Q) -> serial[0] reversible[1] dense(2): expected its
    output to have the shape
back(REV, Q, cache=(X,)) -> reversible: expected the cache of its own forward
# transformers, and their context
run(DECODER, (Q, M, None)) -> ^transformer_decoder_block[0] context(): expected x to be (target,
    memory) or (target, memory, mask, mask), got (float32[2, 5, 6], float32[2, 4, 6], None)
DECODER.forward(DECODER.init(KEY, (Q, M)), (Q, N)) -> ^transformer_decoder_block[1] with_context[1]
    serial[0] residual[0] serial[1] multi_head_attention[1] projection(): expected x of shape (...,
    6), got (2, 4, 3)
ENCODER.forward(((), (), ()), (Q, None, None)) -> ^transformer_encoder_block[0] context(): expected
    x to be a sequence or (sequence, mask), got (float32[2, 5, 6], None, None)
with_context(add(), add()).forward(((), ()), Q) -> ^with_context: expected x to be (input,
    *context), got float32[2, 5, 6]
run(select(2), (Q, M)) -> ^select(2): expected x to be a tuple of at least 3, got (float32[2, 5, 6],
    float32[2, 4, 6])
# mixture_of_experts, and its losses
mixture_of_experts(D, (dense(3),) * 2, top_k=3) -> expected top_k of at most 2, one for each expert
run(mixture_of_experts(dense(5), (dense(3),) * 4), T) -> expected the router to return (..., 4)
run(UNEVEN, T) -> dense(1): expected 3 features as the
back(MOE, T, g=T[:1]) -> expected g of shape (3, 7, 5)
losses.router_balance().forward(normal(3, 1), None) -> expected logits of at least 2 experts
losses.router_z().forward(LOGITS, T[0, :, 0] > 0) -> expected target a mask of the tokens, (3, 7)
# tapped
tapped(NET, '7') -> ^tapped: ... expected paths of layers, got '7'
tapped(D, '0') -> ^tapped: ... expected a composition of layers, got dense(4)
tapped(scan(lstm_cell(4)), '0') -> ^tapped: ... expected paths outside of scan, got '0'
tapped(shared(INNER), '0.*') -> ^tapped: ... expected paths outside of shared, got '0.0'
tapped(tapped(NET, '1'), '0.2') -> ^tapped: ... outside of tapped, got '0.2'; give all paths to one
    tapped
# graph
graph(lambda x: x.expp()) -> expected an operation that is a layer, got 'expp'; did you mean exp
graph(lambda x: 3) -> expected the function to return values of the graph, got 3
graph(lambda x, y: x.exp()) -> expected every argument to be used, got y
graph(lambda x, *, w: x.exp()) -> expected every argument to be used, got w
graph(lambda: 3) -> expected a function with a positional argument, which is x
graph(lambda a: a.__setitem__(0, 1.0)) -> write torch.where(condition, a, b)
graph(whole) -> expected arguments with names, got **more
run(graph(lambda x, y: (x @ y).exp()), (X, T[0, 0])) -> ^graph[0] matmul = matmul(): expected x to
    be
run(graph(lambda x, y: x + y), (X, T[0, 0])) -> ^graph[0] add = add(): expected shapes that fit ...
    got (6, 3), (5,)
LINEAR.init(KEY, X) -> expected init to return a dict of w, got one
LINEAR.forward((), X) -> graph: expected params a dict of w, got ()
graph(lambda a, b: a + b).predict((), X) -> graph: expected x to be (a, b), got
gradients_by_name(tanh(), (), X, X) -> expected net to be made by lf
# The rest is torch's spelling, of a value `a` in a graph.
run(graph(lambda a: a.reshape(7, -1)), Q) -> graph[0] reshape = reshape(7, -1): torch refuses
    float32[2, 5, 6]
run(graph(lambda a: a.chunk(3, 1)[3] + 1), Q) -> graph[1] item = item(3): expected a tuple with an
    entry 3
run(graph(lambda a: a[:, 7]), Q) -> item = item(:, 7): expected x with [:, 7], got float32[2, 5, 6]:
    index 7
run(graph(lambda a, m: a[m]), (S, MASK)) -> expected index to be a tensor of integers, got
    torch.bool
run(graph(lambda a, m: a * (m & a.argmax(1))), (S, MASK)) -> = bitwise_and(): torch refuses
run(graph(lambda a, b: torch.cat([a, b])), (S, X)) -> concatenate
""")
