"""T5: an encoder and a decoder, with a trained bias for each distance in place of positions.

Source: Raffel and others, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer", 2020.
"""

from __future__ import annotations

from typing import Final

from lincoln_fn import combine
from lincoln_fn.combine import branch, parallel, select, serial, shared, tied, with_context
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures import _parts, family
from lincoln_fn.interop.architectures.family import Config, Family, Network, Options, one_of
from lincoln_fn.layers.common.constructors import ours

_INPUTS: Final = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")
_NAMES: Final = """
    shared                                               embedding
    encoder.block.0.layer.0.SelfAttention.relative_attention_bias   encoder.0.1
    decoder.block.0.layer.0.SelfAttention.relative_attention_bias   decoder.0.2.1
    encoder.block.#.layer.0.SelfAttention.{q,k,v,o}      encoder.1.#.0.0.2.{query,key,value,output}
    decoder.block.#.layer.0.SelfAttention.{q,k,v,o}      decoder.1.#.0.0.2.{query,key,value,output}
    decoder.block.#.layer.1.EncDecAttention.{q,k,v,o}    decoder.1.#.1.0.2.{query,key,value,output}
    {encoder,decoder}.block.#.layer.0.layer_norm         {encoder,decoder}.1.#.0.0.1.0
    decoder.block.#.layer.1.layer_norm                   decoder.1.#.1.0.1.0
    encoder.block.#.layer.1.DenseReluDense.{wi,wi_0,wi_1,wo}    encoder.1.#.1.0.{1.0,1.0.0,1.1,3}
    decoder.block.#.layer.2.DenseReluDense.{wi,wi_0,wi_1,wo}    decoder.1.#.2.1.0.{1.0,1.0.0,1.1,3}
    encoder.block.#.layer.1.layer_norm                   encoder.1.#.1.0.0
    decoder.block.#.layer.2.layer_norm                   decoder.1.#.2.1.0.0
    {encoder,decoder}.final_layer_norm                   {encoder,decoder}.2
    lm_head                                              head
"""


def _norm(options: Options) -> Layer:
    return ours.rms_norm(eps=options.layer_norm_epsilon)


def _dropout(options: Options) -> Layer:
    return _parts.maybe_dropout(options.dropout_rate)


def _bias(options: Options, *, bidirectional: bool) -> Layer:
    """Make the mask of (sequence, mask), which all blocks of a stack share."""
    return ours.relative_position_bias(
        options.num_heads,
        options.relative_attention_num_buckets,
        options.relative_attention_max_distance,
        bidirectional=bidirectional,
    )


def _attend(options: Options, *entries: int, is_causal: bool) -> Layer:
    """Make a sublayer in which x_0, normalised, attends to other entries of x."""
    attention = ours.grouped_query_attention(
        options.num_heads,
        head_dim=options.d_kv,
        positions=None,
        is_causal=is_causal,
        scale=1.0,
        dropout=options.dropout_rate,
    )
    others = (ours.identity(),) * (len(entries) - 1)
    first = parallel(_norm(options), *others)
    way = serial(select(*entries), first, attention, _dropout(options))
    return combine.residual(way, select(0))


def _feed_forward(options: Options) -> Layer:
    activation = family.ACTIVATIONS[options.activation]()
    wide = serial(ours.dense(options.d_ff, bias=False), activation)
    if options.is_gated:
        wide = branch(wide, ours.dense(options.d_ff, bias=False), merge=ours.multiply())
    last = (_dropout(options), ours.dense(options.d_model, bias=False), _dropout(options))
    return combine.residual(serial(_norm(options), wide, *last))


def _encoder(options: Options) -> Layer:
    """Make the layers of (h, mask)."""
    bias = _bias(options, bidirectional=True)
    block = serial(_attend(options, 0, 1, is_causal=False), _feed_forward(options))
    return serial(
        _parts.tuple_of(serial(select(0), _dropout(options)), bias),
        with_context(*(block,) * options.num_layers),
        _norm(options),
        _dropout(options),
    )


def _decoder(options: Options) -> Layer:
    """Make the layers of (h, memory, mask, the memory's mask)."""
    bias = serial(select(0, 2), _bias(options, bidirectional=False))
    block = with_context(
        _attend(options, 0, 2, is_causal=True),
        _attend(options, 0, 1, 1, 3, is_causal=False),
        serial(select(0), _feed_forward(options)),
    )
    start = serial(select(0), _dropout(options))
    return serial(
        _parts.tuple_of(start, select(1), bias, select(3)),
        with_context(*(block,) * options.num_decoder_layers),
        _norm(options),
        _dropout(options),
    )


def _body(options: Options) -> Layer:
    """Make the layers of ((h of the source, h of the target), source mask, target mask)."""
    source = _parts.tuple_of(serial(select(0), select(0)), select(1))
    memory = serial(source, _encoder(options))
    target = serial(select(0), select(1))
    return serial(_parts.tuple_of(target, memory, select(2), select(1)), _decoder(options))


def _translator(options: Options) -> Network:
    """Make the network of an encoder and a decoder, whose embedding is used three times."""
    pair = _parts.tuple_of(select(0, 2), select(1), select(3))
    table = shared(ours.embedding(options.vocab_size, options.d_model))
    ties = options.tie_word_embeddings
    factor = options.scale_decoder_outputs
    scaled = (ours.scale(options.d_model**-0.5),) if (ties if factor is None else factor) else ()
    body = serial(_body(options), *scaled)
    first = _parts.arguments(*_INPUTS, least=3)
    copies = {f"{part}.embed_tokens.weight": "shared.weight" for part in ("encoder", "decoder")}
    if ties:
        net, at = serial(first, pair, tied(table, body)), "2.1.0"
        copies["lm_head.weight"] = "shared.weight"
    else:
        head = ours.dense(options.vocab_size, bias=False)
        embed = parallel(table, ours.identity(), ours.identity())
        net, at = serial(first, pair, embed, body, head), "3.0"
    ids = _parts.token_ids()
    places = {"embedding": "2.0", "encoder": f"{at}.0.1.1", "decoder": f"{at}.1", "head": "4"}
    return Network(net, (ids, None, ids), places, copies=copies)


def _encoder_model(options: Options) -> Network:
    table = ours.embedding(options.vocab_size, options.d_model)
    copies = {"encoder.embed_tokens.weight": "shared.weight"}
    network = _parts.of_tokens(_INPUTS[:2], table, _encoder(options), copies=copies)
    return network._replace(places={**network.places, "encoder": network.places["body"]})


def _flattened(config: Config) -> Config:
    """Divide the option of the feed-forward layer, such as "gated-gelu", into two."""
    flat = dict(config)
    # What follows from other options, in the config of a model in memory.
    for name in ("dense_act_fn", "is_gated_act"):
        flat.pop(name, None)
    kind = flat.pop("feed_forward_proj", "relu")
    gated, _, activation = kind.rpartition("-")
    # This gelu is the approximate one, for which an earlier version has had no name.
    flat["activation"] = "gelu_new" if kind == "gated-gelu" else activation
    flat["is_gated"] = gated == "gated"
    if flat.get("num_decoder_layers") is None:
        flat["num_decoder_layers"] = flat.get("num_layers", 6)
    return flat


FAMILIES: Final = {"t5": Family(
    options={
        "activation": one_of("relu"), "d_ff": 2048, "d_kv": 64, "d_model": 512, "dropout_rate": 0.1,
        "is_decoder": (False,), "is_encoder_decoder": True, "is_gated": False,
        "layer_norm_epsilon": 1e-6, "num_decoder_layers": 6, "num_heads": 8, "num_layers": 6,
        "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32,
        "scale_decoder_outputs": None, "tie_word_embeddings": True, "vocab_size": 32128,
    },
    architectures={"T5EncoderModel": _encoder_model, "T5ForConditionalGeneration": _translator},
    names=_NAMES,
    unused=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\..*",),
    harmless=frozenset({"classifier_dropout", "n_positions"}),
    flattened=_flattened,
)}  # fmt: skip
