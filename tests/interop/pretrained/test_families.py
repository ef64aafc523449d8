"""Every family beside Hugging Face's library: outputs, gradients, and files in both directions.

Small random models in float32, with eager attention. Run by a Python that has the library:
`python -m pytest tests/interop/pretrained`.
"""

import pytest
import torch
from helpers import same_bits
from helpers.parity import ROUNDING, Row, check_files, check_outputs, off, perturbed

import lincoln_fn as lf

transformers = pytest.importorskip("transformers", reason="compares with Hugging Face's library")

pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings("ignore"),  # those of the other library
]

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

NO_DROPOUT = {
    "bert": {"attention_probs_dropout_prob": 0, "hidden_dropout_prob": 0},
    "gpt2": {"attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0},
}
IDS = torch.randint(31, (3, 9), generator=torch.Generator().manual_seed(3))
IMAGES = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(4))
MASK = torch.ones(3, 9, dtype=torch.int64)
MASK[0, :4] = 0
MASK[1, 6:] = 0


def logits(module, x):
    return module(*x if isinstance(x, tuple) else (x,)).logits


def hidden(module, x):
    return module(*x if isinstance(x, tuple) else (x,)).last_hidden_state


def masked(module, x):
    return module(x[0], attention_mask=x[1]).logits


def build(name, config, **options):
    torch.manual_seed(0)
    kind = getattr(transformers, config.removesuffix("Config").replace("3Text", "3") + name)
    made = getattr(transformers, config)(attn_implementation="eager", **options)
    return perturbed(kind(made))


def gpt2(name="LMHeadModel", **options):
    sizes = {"n_embd": 12, "n_layer": 2, "n_head": 4, "vocab_size": 31, "n_positions": 16}
    return build(name, "GPT2Config", **sizes, **NO_DROPOUT["gpt2"], **options)


def bert(name, **options):
    sizes = {
        "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 31,
        "intermediate_size": 20, "max_position_embeddings": 16,
    }  # fmt: skip
    return build(name, "BertConfig", **sizes, **NO_DROPOUT["bert"], **options)


def vit(name, **options):
    sizes = {
        "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 20, "image_size": (8, 12), "patch_size": 4,
    }  # fmt: skip
    return build(name, "ViTConfig", **sizes, **options)


def of_tokens(config, name="ForCausalLM", **options):
    """A Llama-like model of 4 heads, 2 of keys, each with 6 of 20 features."""
    sizes = {
        "hidden_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 31,
        "num_key_value_heads": 2, "intermediate_size": 14, "head_dim": 6, "pad_token_id": 0,
        "max_position_embeddings": 64,
    }  # fmt: skip
    return build(name, config, **{**sizes, **options})


def rope(kind, **options):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 100.0, **options}}


def with_pooled(module, x):
    y = module(*x if isinstance(x, tuple) else (x,))
    return y.last_hidden_state, y.pooler_output


def t5(name="ForConditionalGeneration", **options):
    sizes = {
        "d_model": 12, "d_kv": 3, "d_ff": 14, "num_layers": 2, "num_decoder_layers": 3,
        "num_heads": 4, "vocab_size": 31, "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 6, "dropout_rate": 0.0, "decoder_start_token_id": 0,
    }  # fmt: skip
    return build(name, "T5Config", **{**sizes, **options})


def translated(module, x):
    names = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")
    return module(**dict(zip(names, x, strict=False))).logits


def mamba(name="ForCausalLM", **options):
    sizes = {
        "hidden_size": 12, "num_hidden_layers": 2, "vocab_size": 31, "state_size": 3,
        "time_step_rank": 2,
    }  # fmt: skip
    return build(name, "MambaConfig", **{**sizes, **options})


CLIP_SIZES = {
    "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 14,
}  # fmt: skip
CLIP_TEXT = {**CLIP_SIZES, "vocab_size": 31, "max_position_embeddings": 12, "eos_token_id": 30}
CLIP_VISION = {**CLIP_SIZES, "image_size": 8, "patch_size": 4, "hidden_act": "gelu"}
TEXTS = torch.cat((IDS % 30, torch.full((3, 1), 30)), 1)
TEXTS[1, 5:] = 30


def similarities(module, x):
    return module(input_ids=x[0], pixel_values=x[1], attention_mask=(*x, None)[2]).logits_per_image


SCALINGS = [
    {"kind": "linear", "factor": 3.0},
    {"kind": "dynamic", "factor": 3.0},
    {"kind": "yarn", "factor": 4.0, "original_max_position_embeddings": 4},
    {"kind": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16},
]  # fmt: skip
LONG = rope("longrope", short_factor=[1.0, 1.5, 2.0], long_factor=[2.0, 3.0, 4.0])
GEMMA = {
    "sliding_window": 4, "query_pre_attn_scalar": 7, "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 3.0,
}  # fmt: skip
# Families of Llama's names or near to them: options besides the defaults, which have own rows.
IN_WINDOWS = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
ROPE_OF_TWO = {"rope_parameters": {
    "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
    "full_attention": {"rope_type": "linear", "factor": 3.0, "rope_theta": 100.0},
}}  # fmt: skip
MANY_EXPERTS = {"num_experts": 5, "num_experts_per_tok": 2, "norm_topk_prob": True}
# Where positions turn a half or a quarter of a head's features.
WIDE = {"hidden_size": 32, "head_dim": 8}
OTHERS = {
    "ArceeConfig": {"attention_bias": True, "mlp_bias": True},
    "CohereConfig": {"attention_bias": True, "num_key_value_heads": 1, "hidden_size": 24},
    "Cohere2Config": IN_WINDOWS,
    "Ernie4_5Config": {"use_bias": True},
    "GemmaConfig": {"hidden_act": "gelu", "tie_word_embeddings": False},
    "Gemma3TextConfig": {**GEMMA, **IN_WINDOWS, **ROPE_OF_TWO, "attn_logit_softcapping": None},
    "GlmConfig": {**WIDE, "partial_rotary_factor": 0.75},
    "Glm4Config": {**WIDE, "attention_bias": False},
    "GPTNeoXConfig": {**WIDE, "num_key_value_heads": None, "use_parallel_residual": False,
                      "attention_bias": False},
    "GraniteConfig": {"embedding_multiplier": 3.0, "residual_multiplier": 0.7,
                      "attention_multiplier": 0.3, "logits_scaling": 2.0},
    "HeliumConfig": {**WIDE, "attention_bias": True, "mlp_bias": True},
    "MinistralConfig": IN_WINDOWS,
    "OlmoConfig": {"num_key_value_heads": 1},
    "Olmo2Config": {"attention_bias": True},
    "Olmo3Config": {**IN_WINDOWS, **ROPE_OF_TWO},
    "OlmoeConfig": {**WIDE, **MANY_EXPERTS, "intermediate_size": 16},
    "PhiConfig": {**WIDE, "partial_rotary_factor": 0.75},
    "Qwen3MoeConfig": {**MANY_EXPERTS, "moe_intermediate_size": 16},
    "SmolLM3Config": {"no_rope_layer_interval": 2},
    "StableLmConfig": {**WIDE, "use_parallel_residual": True, "use_qkv_bias": True},
    "Starcoder2Config": {"sliding_window": 4},
}  # fmt: skip
# The library's product of several matrices wants rows of whole 16 bytes.
EXPERTS = {"num_local_experts": 5, "intermediate_size": 16}
PADDED = (IDS, MASK)


def sizes_of(options):
    """Only the sizes, with which a family's other options are its defaults."""
    names = ("hidden_size", "head_dim", "intermediate_size", "num_key_value_heads")
    return {name: options[name] for name in names if name in options}


# By model, x, call, where the outputs are compared, and a note.
ROWS = [
    (lambda: gpt2(), IDS, logits),
    (lambda: gpt2(), PADDED, masked, MASK.bool(), "padded"),
    (lambda: gpt2(tie_word_embeddings=False, n_inner=20), IDS, logits, None, "untied"),
    (lambda: gpt2("Model", activation_function="relu"), IDS, hidden),
    (lambda: bert("ForMaskedLM"), IDS, logits),
    (lambda: bert("ForMaskedLM"), (*PADDED, IDS % 2), logits, None, "padded with types"),
    (lambda: bert("Model", hidden_act="gelu_new"), PADDED, with_pooled),
    (lambda: bert("ForSequenceClassification", num_labels=3), IDS, logits),
    (lambda: bert("ForTokenClassification"), IDS, logits),
    (lambda: of_tokens("LlamaConfig"), IDS, logits),
    (lambda: of_tokens("LlamaConfig"), PADDED, logits, MASK.bool(), "padded"),
    (lambda: of_tokens("LlamaConfig", num_key_value_heads=1, tie_word_embeddings=True,
                       attention_bias=True, mlp_bias=True),
     IDS, logits, None, "one head of keys, biases, tied"),
    (lambda: of_tokens("LlamaConfig", "Model", num_key_value_heads=4, hidden_act="gelu_new"),
     IDS, hidden, None, "all heads of keys"),
    *((lambda own=own: of_tokens("LlamaConfig", **rope(**own), max_position_embeddings=6),
       IDS, logits, None, own["kind"]) for own in SCALINGS),
    (lambda: of_tokens("MistralConfig", sliding_window=4), IDS, logits),
    (lambda: of_tokens("MistralConfig", sliding_window=4), PADDED, logits, MASK.bool(), "padded"),
    (lambda: of_tokens("Qwen2Config", hidden_size=24, use_sliding_window=True, sliding_window=3,
                       max_window_layers=1), IDS, logits, None, "a window in the second layer"),
    (lambda: of_tokens("MixtralConfig", **EXPERTS), IDS, logits),
    (lambda: of_tokens("MixtralConfig", **EXPERTS, num_experts_per_tok=3),
     PADDED, logits, MASK.bool(), "padded"),
    (lambda: of_tokens("Qwen3Config", tie_word_embeddings=True), IDS, logits),
    (lambda: of_tokens("Phi3Config", partial_rotary_factor=0.7, hidden_size=24), IDS, logits),
    (lambda: of_tokens("Phi3Config", hidden_size=24, **LONG, max_position_embeddings=32,
                       original_max_position_embeddings=6, sliding_window=5),
     IDS, logits, None, "longrope"),
    (lambda: of_tokens("Gemma2Config", **GEMMA), IDS, logits),
    (lambda: of_tokens("Gemma2Config", **GEMMA), PADDED, logits, MASK.bool(), "padded"),
    (lambda: of_tokens("Gemma2Config", "Model", sliding_window=3), IDS, hidden),
    (lambda: of_tokens("GemmaConfig", "Model"), IDS, hidden),
    *((lambda config=config, options=options: of_tokens(config, **sizes_of(options)), IDS, logits)
      for config, options in OTHERS.items()),
    *((lambda config=config, options=options: of_tokens(config, **options),
       PADDED, logits, MASK.bool(), "padded") for config, options in OTHERS.items()),
    (lambda: mamba(), IDS, logits),
    # Longer than a chunk of the scan, and no multiple of it.
    (lambda: mamba(tie_word_embeddings=False, use_bias=True, use_conv_bias=False, conv_kernel=3),
     IDS.repeat(1, 4), logits, None, "untied, biases"),
    (lambda: mamba("Model", time_step_rank="auto", expand=3), IDS, hidden),
    (lambda: t5(), (IDS, None, IDS[:, :5] + 1), translated),
    (lambda: t5(feed_forward_proj="gated-gelu", dense_act_fn="gelu_new"),
     (*PADDED, IDS[:, 1:7], None), translated, None, "gated, padded"),
    (lambda: t5(feed_forward_proj="gated-silu"),
     (*PADDED, *PADDED), translated, MASK.bool(), "padded targets"),
    (lambda: t5("EncoderModel"), PADDED, hidden, MASK.bool()),
    (lambda: build("Model", "CLIPConfig", text_config=CLIP_TEXT, vision_config=CLIP_VISION,
                   projection_dim=7), (TEXTS, IMAGES[..., :8]), similarities),
    (lambda: build("Model", "CLIPConfig", text_config={**CLIP_TEXT, "eos_token_id": 2},
                   vision_config=CLIP_VISION),
     (TEXTS, IMAGES[..., :8], (TEXTS != 30).int() | 1), similarities, None, "of the first configs"),
    (lambda: build("Model", "CLIPTextConfig", **CLIP_TEXT), TEXTS, with_pooled),
    (lambda: build("Model", "CLIPVisionConfig", **CLIP_VISION), IMAGES[..., :8], with_pooled),
    (lambda: vit("Model"), IMAGES, with_pooled),
    (lambda: vit("ForImageClassification", num_labels=5), IMAGES, logits),
]  # fmt: skip


def made(make, *rest):
    return Row(make(), *rest)


MADE = [made(*row) for row in ROWS]
# Those that decode: with these two scalings, the keys of a longer text are others.
CAUSAL = [
    row
    for row in MADE
    if row.x is IDS and row.module.can_generate() and row.note not in ("dynamic", "longrope")
]


@pytest.mark.parametrize("row", MADE, ids=str)
@pytest.mark.parametrize("check", [check_outputs, check_files])
def test_family(row, check):
    check(row)


def assert_writes_alike(module, sampler, **options):
    module.generation_config.eos_token_id = None
    expected = module.generate(
        IDS, attention_mask=torch.ones_like(IDS), do_sample=False, max_new_tokens=7, pad_token_id=0,
        **options,
    )  # fmt: skip
    net, params = lf.interop.from_torch(module)
    stream = lf.generate(
        lf.decode(net), params, IDS, key=lf.Key(0), sampler=sampler, max_new_tokens=7
    )
    tokens = torch.stack([token for _, token in stream], 1)
    assert len(tokens.unique()) > 1
    assert torch.equal(tokens, expected[:, IDS.shape[1] :])


@pytest.mark.parametrize("row", CAUSAL, ids=str)
def test_greedy_tokens_are_those_of_generate(row):
    assert_writes_alike(row.module, lf.samplers.greedy())


def test_a_repetition_penalty_is_that_of_generate():
    sampler = lf.samplers.chain(lf.samplers.repetition_penalty(1.7), lf.samplers.greedy())
    assert_writes_alike(gpt2(), sampler, repetition_penalty=1.7)


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize(("length_penalty", "stop"), [(0.0, ()), (0.7, (3,)), (2.0, (3, 7))])
def test_a_beam_search_is_that_of_generate(length_penalty, stop, early_stopping):
    options = {
        "num_beams": 4, "max_new_tokens": 7, "length_penalty": length_penalty,
        "early_stopping": early_stopping,
    }  # fmt: skip
    module = gpt2()
    for parameter in module.parameters():
        parameter.data.mul_(2.5)
    module.generation_config.eos_token_id = None
    theirs = module.generate(
        IDS, attention_mask=torch.ones_like(IDS), do_sample=False, num_return_sequences=4,
        return_dict_in_generate=True, output_scores=True, pad_token_id=0,
        eos_token_id=list(stop) or None, **options,
    )  # fmt: skip
    net, params = lf.interop.from_torch(module)
    texts, scores = lf.beam_search(lf.decode(net), params, IDS, stop=stop, **options)
    assert off(scores.flatten(), theirs.sequences_scores) < ROUNDING
    for ours, expected in zip(texts.flatten(0, 1), theirs.sequences[:, 9:], strict=True):
        ends = torch.isin(ours, torch.tensor(stop)).nonzero().flatten().tolist()
        length = ends[0] + 1 if ends else len(ours)
        assert torch.equal(ours[:length], expected[:length])


@pytest.mark.parametrize("row", [
    made(*ROWS[0]),
    made(*ROWS[4]),
    made(*ROWS[-1]),
    Row(of_tokens("MixtralConfig", **EXPERTS), IDS, logits),
], ids=str)  # fmt: skip
def test_a_model_in_memory_is_that_of_its_files(row, tmp_path):
    row.module.save_pretrained(tmp_path)
    net, params, _ = lf.interop.from_pretrained(tmp_path)
    made, same = lf.interop.from_torch(row.module)
    assert made.name == net.name
    assert same_bits(lf.tree.leaves(same), lf.tree.leaves(params))
    named, own = lf.interop.to_state_dict(made, same, row.module), row.module.state_dict()
    assert [*named] == [*own]
    assert same_bits(named, dict(own))
    frozen, held = lf.interop.from_torch(row.module.requires_grad_(False))
    assert same_bits(frozen.predict(held, row.x), net.predict(params, row.x))
    assert not lf.tree.leaves(held)
    assert same_bits(lf.interop.to_state_dict(frozen, held, row.module), named)


def test_a_model_whose_code_was_replaced_is_refused():
    module = gpt2()
    mlp = module.transformer.h[0].mlp
    mlp.forward = lambda x: x
    problem = "expected its class's own forward, got another; make one layer of it by from_module"
    with pytest.raises(lf.LayerError, match=f"h.0.mlp GPT2MLP: {problem}"):
        lf.interop.from_torch(module)


def test_a_part_of_a_model_is_refused_with_what_works():
    module = gpt2()
    step = "give the whole model, or make one layer of it by from_module"
    with pytest.raises(lf.LayerError, match=f"GPT2Block: .*; {step}"):
        lf.interop.from_torch(module.transformer.h[0])
    module = build("ForCausalLM", "OPTConfig", hidden_size=8, num_hidden_layers=1, ffn_dim=8,
                   num_attention_heads=2, vocab_size=31, word_embed_proj_dim=8)  # fmt: skip
    with pytest.raises(lf.LayerError, match=r"got 'opt'\nOr make one layer of it by from_module"):
        lf.interop.from_torch(module)
    layer, params = lf.interop.from_module(module, lambda model, ids: model(ids).logits)
    y, cache = layer.forward(params, IDS)
    assert off(y, module(IDS).logits) < ROUNDING
    (0.5 * module(IDS).logits.square()).sum().backward()
    _, dparams = layer.backward(params, cache, y)
    for name, parameter in module.named_parameters():
        assert off(dparams[name], parameter.grad) < ROUNDING


def test_mixtral_with_its_loss_of_routers_is_trained_alike():
    module, same = (of_tokens("MixtralConfig", **EXPERTS) for _ in range(2))
    theirs = module(IDS, labels=IDS, output_router_logits=True)  # which leaves hooks
    theirs.loss.backward()
    plain, params = lf.interop.from_torch(same)
    net = lf.tapped(plain, "*.router")
    loss = lf.losses.weighted({
        "tokens": (1.0, lf.losses.softmax_cross_entropy()),
        "balance": (module.config.router_aux_loss_coef, lf.losses.router_balance()),
    })  # fmt: skip
    (y, routers), cache = net.forward(params, IDS)
    assert off(y, theirs.logits) < ROUNDING
    prediction, target = (y[:, :-1].flatten(0, 1), routers), (IDS[:, 1:].flatten(), None)
    value, of_loss = loss.forward(prediction, target)
    assert off(of_loss.values[1], theirs.aux_loss) < ROUNDING
    assert off(value, theirs.loss) < ROUNDING
    g, of_routers = loss.backward(of_loss)
    g = torch.nn.functional.pad(g.view(3, 8, -1), (0, 0, 0, 1))
    dparams = net.grads(params, cache, (g, of_routers))
    named = lf.interop.to_state_dict(plain, dparams, same)
    for name, parameter in module.named_parameters():
        assert off(named[name], parameter.grad) < ROUNDING, name
