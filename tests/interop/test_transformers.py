"""torch's transformers, whole: their layers compute the same, there and back, and move on alike."""

import copy
import warnings

import pytest
import torch
from helpers import names_of, normal, same_bits, same_number
from helpers.refusals import assert_says, refusals
from torch import nn

import lincoln_fn as lf
from lincoln_fn import interop
from lincoln_fn.interop import from_state_dict, from_torch, to_state_dict

N, HEADS, FEATURES, SOURCE, TARGET = 3, 2, 6, 5, 4
STYLES = [{}, {"activation": "gelu", "norm_first": True, "bias": False, "layer_norm_eps": 0.1}]


def drawn(module):
    """Give a module numbers that differ from part to part, in float64."""
    module = copy.deepcopy(module).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            numbers = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(numbers / 2 - 0.1)
    return module


def sequence(length, seed, batch_first=True):
    x = normal(N, length, FEATURES, seed=seed).double()
    return x if batch_first else x.transpose(0, 1)


def encoder(norm=None, count=2, **style):
    block = nn.TransformerEncoderLayer(FEATURES, HEADS, 8, 0.0, **style)
    return drawn(nn.TransformerEncoder(block, count, norm, enable_nested_tensor=False))


def decoder(norm=None, count=2, **style):
    block = nn.TransformerDecoderLayer(FEATURES, HEADS, 8, 0.0, **style)
    return drawn(nn.TransformerDecoder(block, count, norm))


def whole(**style):
    with warnings.catch_warnings():  # torch's, that it is faster with batch_first
        warnings.simplefilter("ignore", UserWarning)
        return drawn(nn.Transformer(FEATURES, HEADS, 2, 3, 8, 0.0, **style))


def agree(module, inputs, x, **masks):
    """Check y and all gradients against torch's, and return the layer and its params.

    Args:
        module: torch's.
        inputs: its tensors that have gradients, in its order.
        x: what the layer is given instead.
        **masks: what torch is told besides.
    """
    layer, params = from_torch(module)
    given = [t.clone().requires_grad_() for t in inputs]
    expected = module.train()(*given, **masks)
    g = normal(*expected.shape, seed=9).double()
    named = dict(module.named_parameters())
    gradients = torch.autograd.grad(expected, (*given, *named.values()), g)
    y, cache = layer.forward(params, x)
    assert same_number((y, layer.predict(params, x)), (expected.detach(), expected.detach()))
    dx, dparams = layer.backward(params, cache, g)
    assert (len(dx) if isinstance(dx, tuple) else None) == (
        len(x) if isinstance(x, tuple) else None
    )
    ours = dx[: len(given)] if isinstance(dx, tuple) else (dx,)
    assert same_number(ours, gradients[: len(given)])
    theirs = dict(zip(named, gradients[len(given) :], strict=True))
    assert same_number(to_state_dict(layer, dparams), theirs)
    halves = layer.input_grad(params, cache, g), layer.grads(params, cache, g)
    assert same_bits(halves, (dx, dparams))
    sites = lf.cotangents(layer, params, cache, g)[1]
    assert same_bits(lf.grads_at(layer, params, sites), dparams)
    return layer, params


# Each style with each order of the axes, and every norm at the end.
KINDS = [
    (None, STYLES[0], True),
    (nn.LayerNorm(FEATURES, 0.1), STYLES[0], False),
    (nn.LayerNorm(FEATURES, bias=False), STYLES[1], True),
    (None, STYLES[1], False),
]


@pytest.mark.full(but=("bias=False",))
@pytest.mark.parametrize(("norm", "style", "batch_first"), KINDS, ids=str)
def test_an_encoder_and_a_decoder(norm, style, batch_first):
    source, target = (sequence(n, i, batch_first) for i, n in enumerate((SOURCE, TARGET)))
    module = encoder(norm, batch_first=batch_first, **style)
    for x in (source, source[0], (source, None)):
        agree(module, x[:1] if isinstance(x, tuple) else (x,), x)
    module, x = decoder(norm, batch_first=batch_first, **style), (target, source)
    for masks in ((), (None, None)):
        agree(module, x, x + masks)


@pytest.mark.full
@pytest.mark.parametrize(("style", "batch_first"), [(STYLES[0], True), (STYLES[1], False)])
def test_both(style, batch_first):
    module = whole(batch_first=batch_first, **style)
    x = sequence(SOURCE, 0, batch_first), sequence(TARGET, 1, batch_first)
    agree(module, x, x)
    agree(module, x, (*x, None, None, None))


def bools(*shape, seed):
    """Draw which places are forbidden, never the first."""
    forbidden = normal(*shape, seed=seed) > 0.4
    forbidden[..., 0] = False
    return forbidden


# torch's mask, and ours, of SOURCE queries and SOURCE keys.
PADDING, SQUARE = bools(N, SOURCE, seed=3), bools(SOURCE, SOURCE, seed=4)
BY_HEAD, ADDED = bools(N * HEADS, SOURCE, SOURCE, seed=5), normal(SOURCE, SOURCE, seed=6).double()
MASKS = {
    "square": ({"mask": SQUARE}, ~SQUARE[None, None]),
    "added": ({"mask": ADDED}, ADDED[None, None]),
    "by head": ({"mask": BY_HEAD}, ~BY_HEAD.unflatten(0, (N, HEADS))),
    "padding": ({"src_key_padding_mask": PADDING}, ~PADDING),
    "both": ({"mask": SQUARE, "src_key_padding_mask": PADDING}, ~(SQUARE | PADDING[:, None, None])),
}


@pytest.mark.full(but=("both-True",))
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", MASKS)
def test_masks_of_an_encoder_are_those_that_the_module_says(kind, batch_first):
    x = sequence(SOURCE, 0, batch_first)
    theirs, ours = MASKS[kind]
    agree(encoder(batch_first=batch_first), (x,), (x, ours), **theirs)


@pytest.mark.full
@pytest.mark.parametrize("batch_first", [True, False])
def test_masks_of_both(batch_first):
    x = sequence(SOURCE, 0, batch_first), sequence(TARGET, 1, batch_first)
    target, memory = bools(TARGET, TARGET, seed=7), bools(N, SOURCE, seed=8)
    layer, params = agree(
        whole(batch_first=batch_first),
        x,
        (*x, ~PADDING, ~target[None, None], ~memory),
        src_key_padding_mask=PADDING,
        tgt_mask=target,
        memory_key_padding_mask=memory,
    )
    without = layer.predict(params, x)
    for i, mask in enumerate((~PADDING, ~target[None, None], ~memory)):
        masks = [None] * 3
        masks[i] = mask
        assert not same_number(layer.predict(params, (*x, *masks)), without)


def test_a_mask_that_is_added_has_a_gradient_of_every_block():
    module = decoder(batch_first=True)
    x = sequence(TARGET, 0), sequence(SOURCE, 1)
    own = normal(TARGET, TARGET, seed=2).double().requires_grad_()
    other = normal(TARGET, SOURCE, seed=3).double().requires_grad_()
    expected = module(*x, tgt_mask=own, memory_mask=other)
    g = normal(*expected.shape, seed=9).double()
    gradients = torch.autograd.grad(expected, (own, other), g)
    layer, params = from_torch(module)
    masks = own.detach()[None, None], other.detach()[None, None]
    _, cache = layer.forward(params, (*x, *masks))
    _, _, *dmasks = layer.input_grad(params, cache, g)
    assert same_number([dmask[0, 0] for dmask in dmasks], list(gradients))


def test_is_causal_is_a_mask_or_blocks_that_are():
    module = whole(batch_first=True)
    x = sequence(SOURCE, 0), sequence(TARGET, 1)
    causal = torch.ones(TARGET, TARGET, dtype=torch.bool).tril()
    layer, params = agree(
        module,
        x,
        (*x, None, causal[None, None], None),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(TARGET, dtype=torch.float64),
        tgt_is_causal=True,
    )
    block = lf.transformer_decoder_block(HEADS, 8, 0.0, is_causal=True)
    blocks = interop.transformer_decoder(block, block, block, norm=lf.layer_norm())
    other = interop.transformer(layer.parts[0], blocks)
    y = layer.predict(params, (*x, None, causal[None, None], None))
    assert same_number(other.predict(params, x), y)
    assert not same_number(layer.predict(params, x), y)


MODULES = [
    encoder(),
    encoder(nn.LayerNorm(FEATURES)),
    decoder(nn.RMSNorm(FEATURES), batch_first=True),
    whole(batch_first=True),
]


@pytest.mark.full
@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_names_are_torchs_and_like_is_not_needed(module):
    layer, params = from_torch(module)
    named = to_state_dict(layer, params)
    assert list(named) == list(module.state_dict())
    module.load_state_dict(named, strict=True)
    for back in (from_state_dict(layer, named), from_state_dict(layer, named, params)):
        assert lf.tree.same_structure(back, params, states=True)
        assert same_bits(to_state_dict(layer, back), named)
    sources = (sequence(SOURCE, 0), sequence(TARGET, 1))
    x = sources if isinstance(module, nn.Transformer | nn.TransformerDecoder) else sources[0]
    assert lf.tree.same_structure(layer.init(lf.Key(0), x), params, states=True)
    missing = dict(list(named.items())[1:])
    assert_says(f"{next(iter(named))}: missing", from_state_dict, layer, missing)


def test_what_is_shown_makes_the_layer():
    shown = (
        "transformer_encoder(transformer_encoder_block(2, dim_feedforward=8, dropout=0.0, "
        "batch_first=False), norm=layer_norm(6))"
    )
    layer, _ = from_torch(encoder(nn.LayerNorm(FEATURES), count=1))
    assert repr(layer) == shown
    assert repr(eval(shown, names_of(lf) | names_of(interop))) == shown
    two = interop.transformer_decoder(lf.tanh(), lf.relu())
    assert repr(two) == "transformer_decoder(tanh(), relu())"
    both = interop.transformer(interop.transformer_encoder(lf.tanh()), lf.relu())
    assert repr(both) == "transformer(transformer_encoder(tanh()), relu())"


@pytest.mark.full(but=("[encoder]",))
@pytest.mark.parametrize("still", ["encoder", "decoder"])
def test_a_part_that_is_not_trained_is_frozen(still):
    module = whole(batch_first=True)
    getattr(module, still).requires_grad_(False)
    _, params = from_torch(module)
    assert {path[0] for path in lf.tree.paths(params)} == {"01"[still == "encoder"]}


def test_dropout_draws_other_masks_in_each_block_and_at_each_step():
    module = nn.Transformer(FEATURES, HEADS, 2, 2, 8, 0.5, batch_first=True).double()
    layer, params = from_torch(module)
    x = sequence(SOURCE, 0), sequence(TARGET, 1)
    y, cache = layer.forward(params, x)
    advanced = layer.advance(params, cache)
    trained = {id(leaf) for leaf in lf.tree.leaves(params)}
    before, after = (
        {int(t) for t in lf.tree.leaves(p, states=True) if id(t) not in trained}
        for p in (params, advanced)
    )
    assert len(before) == len(after) == 2 * 4 + 2 * 6
    assert not before & after
    assert not same_bits(layer.forward(advanced, x)[0], y)
    assert same_number(layer.predict(params, x), module.eval()(*x).detach())


LAYER, PARAMS = from_torch(whole(batch_first=True))
SOURCES = sequence(SOURCE, 0), sequence(TARGET, 1)
test_errors_say_their_place = refusals("""
LAYER.forward(PARAMS, SOURCES[0]) -> ^transformer: expected x to be (source, target) or with masks
    of source, target and memory behind, got
LAYER.forward(PARAMS, (*SOURCES, None)) -> ^transformer: expected x to be (source, target) or with
    masks
LAYER.forward(PARAMS, (SOURCES[0][..., :3], SOURCES[1])) -> ^transformer[0] transformer_encoder[0]
    transformer_encoder_block[1]
interop.transformer_encoder(norm=layer_norm()) -> ValueError: ^transformer_encoder: expected at
    least one block
interop.transformer_decoder(norm=layer_norm()) -> ValueError: ^transformer_decoder: expected at
    least one block
""")
