"""Folders of pretrained weights: what is read is what was saved, and what is not known is refused.

`tests/interop/pretrained` compares the networks with Hugging Face's library.
"""

import json
import weakref
from functools import cache

import pytest
import torch
from helpers import assert_says, error_of, same_bits, same_number

import lincoln_fn as lf
from lincoln_fn.interop import from_config, from_pretrained, save_pretrained
from lincoln_fn.interop.architectures import FAMILIES
from lincoln_fn.interop.architectures.family import find_slots
from lincoln_fn.interop.pretrained import model_of

LLAMA = {
    "hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 5, "vocab_size": 11, "head_dim": 4, "pad_token_id": 0,
}  # fmt: skip
CLIP_TEXT = {
    "hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 5,
    "vocab_size": 11, "max_position_embeddings": 8, "eos_token_id": 7,
}  # fmt: skip
CLIP_VISION = {
    "hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 5,
    "image_size": 4, "patch_size": 2,
}  # fmt: skip
SIZES = {
    "clip": {"text_config": CLIP_TEXT, "vision_config": CLIP_VISION, "projection_dim": 4},
    "clip_text_model": CLIP_TEXT,
    "clip_vision_model": CLIP_VISION,
    # Llama's, and those whose options have its names.
    **{kind: LLAMA for kind, family in FAMILIES.items() if "rope_parameters" in family.defaults},
    "gpt_neox": {**LLAMA, "partial_rotary_factor": 0.5},
    "stablelm": {**LLAMA, "partial_rotary_factor": 0.5},
    "olmoe": {**LLAMA, "num_experts": 3, "num_experts_per_tok": 2},
    "qwen3_moe": {
        **LLAMA, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 5,
    },
    "bert": {
        "hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 11,
        "intermediate_size": 5, "max_position_embeddings": 8,
    },
    "mamba": {
        "hidden_size": 6, "num_hidden_layers": 1, "vocab_size": 11, "state_size": 2,
        "intermediate_size": 12, "time_step_rank": 3, "conv_kernel": 2,
    },
    "mixtral": {**LLAMA, "num_local_experts": 3, "num_experts_per_tok": 2},
    "gpt2": {"n_embd": 6, "n_layer": 1, "n_head": 2, "vocab_size": 11, "n_positions": 8},
    "t5": {"d_model": 6, "d_kv": 2, "d_ff": 5, "num_layers": 1, "num_heads": 2, "vocab_size": 11,
        "relative_attention_num_buckets": 4, "relative_attention_max_distance": 5},
    "vit": {"hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 5, "image_size": [4, 6], "patch_size": 2},
}  # fmt: skip
ARCHITECTURES = [(kind, name) for kind, family in FAMILIES.items() for name in family.architectures]
IDS = torch.tensor([[3, 1, 4, 1], [5, 9, 2, 6]])


def tiny(kind="gpt2", architecture=None, **options):
    architecture = architecture or next(iter(FAMILIES[kind].architectures))
    return {"model_type": kind, "architectures": [architecture], **SIZES[kind], **options}


PLACES = {"bert": "3.1.1.bias", "gpt2": "2.2.1.bias", "llama": "2.1.1.weight", "t5": "2.2.weight"}


@pytest.mark.parametrize("kind", PLACES)
def test_params_that_were_saved_with_an_older_version_have_their_places(kind):
    x = (IDS, IDS) if kind == "t5" else (IDS,)
    params = lf.interop.from_config(tiny(kind)).init(lf.Key(0), x)
    assert lf.tree.paths(params)[-1] == PLACES[kind]


def made(config):
    """Make the network of a config, with params that are drawn."""
    return made_once(json.dumps(config))


@cache
def made_once(text):
    config = json.loads(text)
    net = from_config(config)
    example = model_of(config)[0].network.example
    x = lf.tree.map(lambda leaf: torch.zeros(leaf.shape, dtype=leaf.dtype), example)
    return net, net.init(lf.Key(5), x)


def saved(folder, config, **options):
    net, params = made(config)
    save_pretrained(net, params, config, folder, **options)
    return net, params


def numbers(params):
    return lf.tree.leaves(params)


def rewritten(folder, change):
    """Change the tensors of a saved folder by name."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


@pytest.mark.full(but=("bert-BertModel", "gpt2-GPT2LM", "mamba-MambaFor"))
@pytest.mark.parametrize(("kind", "name"), ARCHITECTURES)
def test_what_is_loaded_is_what_was_saved(kind, name, tmp_path):
    config = tiny(kind, name)
    net, params = saved(tmp_path, config)
    again, loaded, read = from_pretrained(tmp_path)
    assert again.name == net.name
    assert same_bits(numbers(loaded), numbers(params))
    assert read == {**config, "dtype": "float32"}


CAUSAL = [row for row in ARCHITECTURES if row[1].endswith(("ForCausalLM", "LMHeadModel"))]


@pytest.mark.full(but=("llama", "mamba"))
@pytest.mark.parametrize(("kind", "name"), CAUSAL)
def test_a_language_model_decodes_token_by_token(kind, name):
    net, params = made(tiny(kind, name))
    decoder = lf.decode(net)
    state = decoder.init(params, len(IDS), max_length=6)
    first, state = decoder.step(params, state, IDS[:, :2])
    second, state = decoder.step(params, state, IDS[:, 2:3])
    third, state = decoder.step(params, state, IDS[:, 3:])
    assert same_number(torch.cat((first, second, third), 1), net.predict(params, IDS))


def test_a_table_of_names_is_read_in_both_directions_and_may_not_forget_a_parameter():
    net = lf.serial(lf.dense(2), lf.serial(lf.dense(3), lf.dense(3, bias=False)))
    params = net.init(lf.Key(0), torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"the table of names has none for 0.weight"):
        find_slots("h.# 1.#", {}, params)
    slots = find_slots("first 0 right \n h.# 1.#+1 \n last.kernel body.0.weight 2 \n last body.0",
                       {"body": "1"}, params)  # fmt: skip
    assert {slot.name: (slot.fields, slot.transposed, slot.leading) for slot in slots} == {
        "first.weight": (("0.weight",), False, 0), "first.bias": (("0.bias",), False, 0),
        "last.kernel": (("1.0.weight",), True, 2), "last.bias": (("1.0.bias",), False, 0),
        "h.0.weight": (("1.1.weight",), True, 0),
    }  # fmt: skip


@pytest.mark.full
def test_dropouts_keys_follow_the_key(tmp_path):
    saved(tmp_path, tiny())
    net, params, _ = from_pretrained(tmp_path, key=lf.Key(1))
    same, other = (from_pretrained(tmp_path, key=lf.Key(i))[1] for i in (1, 2))
    y = net.forward(params, IDS)[0]
    assert same_bits(net.forward(same, IDS)[0], y)
    assert not same_number(net.forward(other, IDS)[0], y)
    assert same_bits(net.predict(other, IDS), net.predict(params, IDS))


def test_a_mask_of_integers_is_one_of_bools_and_padding_is_not_seen(tmp_path):
    net, params = saved(tmp_path, tiny(attn_pdrop=0, embd_pdrop=0, resid_pdrop=0))
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]])
    y = net.predict(params, (IDS, mask))
    assert same_bits(net.predict(params, (IDS, mask.bool())), y)
    changed = IDS.where(mask.bool(), 7)
    assert same_bits(net.predict(params, (changed, mask))[mask.bool()], y[mask.bool()])
    assert same_number(y[0, :3], net.predict(params, IDS)[0, :3])


def test_options_of_rotary_positions_have_old_and_new_names():
    new = {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 50.0}}
    old = {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 50.0}
    names = {from_config(tiny("llama", **options)).name for options in (new, old)}
    assert len(names) == 1
    assert "rotary_embedding(theta=50.0, scaling=linear(2.0))" in names.pop()


@pytest.mark.full
def test_layers_without_a_list_of_types_are_those_of_first_configs():
    old = {"rope_theta": 50.0, "rope_local_base_freq": 20.0, "sliding_window": 4,
           "sliding_window_pattern": 2, "num_hidden_layers": 3}  # fmt: skip
    rope = {"full_attention": {"rope_theta": 50.0}, "sliding_attention": {"rope_theta": 20.0}}
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    new = {"rope_parameters": rope, "sliding_window": 4, "layer_types": kinds,
           "_sliding_window_pattern": 2, "num_hidden_layers": 3}  # fmt: skip
    names = {from_config(tiny("gemma3_text", **options)).name for options in (new, old)}
    assert len(names) == 1
    name = names.pop()
    assert name.count("rotary_embedding(theta=50.0)") == 1
    assert name.count("rotary_embedding(theta=20.0), ") == name.count("sliding_window=4") == 2
    name = from_config(tiny("smollm3", num_hidden_layers=4)).name
    assert [block.count("rotary") for block in name.split("grouped_query")[1:]] == [1, 1, 1, 0]
    windows = {"use_sliding_window": True, "sliding_window": 4}
    name = from_config(tiny("smollm3", num_hidden_layers=4, **windows)).name
    blocks = name.split("grouped_query")[1:]
    assert [block.count("sliding_window") for block in blocks] == [0, 0, 0, 1]


def test_defaults_are_those_of_the_library():
    assert "theta=1000000.0" in from_config(tiny("mixtral")).name
    # Of the embedding and of two sublayers.
    name = from_config(tiny("gpt_neox", num_hidden_layers=1, hidden_dropout=0.25)).name
    assert name.count("dropout(p=0.25)") == 3


def test_large_weights_are_divided_among_files_with_an_index(tmp_path):
    net, params = saved(tmp_path, tiny(), max_shard_size=900)
    files = sorted(file.name for file in tmp_path.iterdir())
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert files[1].startswith("model-00001-of-000")
    assert set(index["weight_map"].values()) == set(files[1:-1])
    assert len(files) > 4
    assert same_bits(numbers(from_pretrained(tmp_path)[1]), numbers(params))
    # An undivided save replaces them all.
    save_pretrained(net, params, tiny(), tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert same_bits(numbers(from_pretrained(tmp_path)[1]), numbers(params))


def test_params_have_the_dtype_that_is_asked_for(tmp_path):
    net, params = saved(tmp_path, tiny())
    half = from_pretrained(tmp_path, dtype=torch.bfloat16)[1]
    assert same_bits(numbers(half), [leaf.bfloat16() for leaf in numbers(params)])
    save_pretrained(net, half, tiny(), tmp_path)
    _, again, config = from_pretrained(tmp_path)
    assert config["dtype"] == "bfloat16"
    assert same_bits(numbers(again), numbers(half))


def test_each_tensor_is_copied_before_the_next_is_read(tmp_path, monkeypatch):
    from lincoln_fn.interop import stored

    read, living = stored.files.read_bytes, []

    def watched(file, size):
        assert not any(weak() is not None for weak in living)
        raw = read(file, size)
        living.append(weakref.ref(raw))
        return raw

    saved(tmp_path, tiny())
    monkeypatch.setattr(stored.files, "read_bytes", watched)
    from_pretrained(tmp_path)
    assert len(living) == 16


def test_a_frozen_network_is_saved_as_the_network(tmp_path):
    net, params = saved(tmp_path, tiny())
    frozen = lf.frozen(net)
    other = tmp_path / "frozen"
    save_pretrained(frozen, frozen.init(lf.Key(5), IDS), tiny(), other)
    assert same_bits(numbers(from_pretrained(other)[1]), numbers(params))


@pytest.mark.full
def test_names_in_use_elsewhere_are_known(tmp_path):
    """Without the prefix, with TensorFlow's names, masks, and a copy of the tied matrix."""
    _, params = saved(tmp_path, tiny("gpt2", "GPT2LMHeadModel"))

    def change(tensors):
        for name in [*tensors]:
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 8, 8)
        tensors["lm_head.weight"] = tensors["wte.weight"].clone()

    rewritten(tmp_path, change)
    assert same_bits(numbers(from_pretrained(tmp_path)[1]), numbers(params))
    _, params = saved(tmp_path, tiny("bert", "BertForMaskedLM"))

    def change(tensors):
        for name in [*tensors]:
            if "LayerNorm" in name:
                new = name.replace("LayerNorm.weight", "LayerNorm.gamma")
                tensors[new.replace("LayerNorm.bias", "LayerNorm.beta")] = tensors.pop(name)
        tensors["cls.seq_relationship.bias"] = torch.ones(2)

    rewritten(tmp_path, change)
    assert same_bits(numbers(from_pretrained(tmp_path)[1]), numbers(params))


def test_one_error_lists_everything_that_is_not_known(tmp_path):
    saved(tmp_path, tiny())

    def change(tensors):
        tensors["h.0.ln_3.bias"] = tensors.pop("h.0.ln_2.bias")
        tensors["ln_f.weight"] = torch.zeros(5)

    rewritten(tmp_path, change)
    config = tiny(scale_attn_weights=False, activation_function="mish2", soft_cap=3.0, off=None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    lines = error_of(from_pretrained, tmp_path)[1].splitlines()
    assert lines[0] == "from_pretrained: differs from what is known:"
    assert sorted(line.strip().split(", got")[0] for line in lines[1:]) == [
        "activation_function: expected 'gelu_new' or 'gelu' or 'gelu_fast' or "
        "'gelu_pytorch_tanh' or 'quick_gelu' or 'relu' or 'relu2' or 'silu' or 'swish' or 'tanh'",
        "h.0.ln_2.bias: missing",
        "h.0.ln_3.bias: unexpected",
        "ln_f.weight: expected shape (6,)",
        "scale_attn_weights: expected True",
        "soft_cap: unknown option",
    ]


@pytest.mark.full
def test_what_is_ignored_by_name_is_left_out(tmp_path):
    _, params = saved(tmp_path, tiny("gpt2", "GPT2LMHeadModel", soft_cap=0))
    rewritten(tmp_path, lambda tensors: tensors.update({"value_head.bias": torch.ones(1)}))
    config = tiny("gpt2", "GPT2LMHeadModel", my_note="x")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(lf.LayerError, match=r"my_note: unknown option, got 'x'\n.*value_head"):
        from_pretrained(tmp_path)
    loaded = from_pretrained(tmp_path, ignore=("my_note", "value_*"))[1]
    assert same_bits(numbers(loaded), numbers(params))
    # The model without its head.
    options = {"architecture": "GPT2Model", "ignore": ("my_note", "value_*")}
    body, loaded, _ = from_pretrained(tmp_path, **options)
    assert body.predict(loaded, IDS).shape == (2, 4, 6)


UNKNOWN = [
    ({"model_type": "gpt5"}, r"model_type: expected one of arcee, bert, .*, got 'gpt5'"),
    (tiny("gpt2", "GPT2ForOthers"),
     r"architectures: expected \[GPT2Model or GPT2LMHeadModel\], got \['GPT2ForOthers'\]"),
    (tiny("llama", rope_scaling={"type": "ntk"}), r"rope_type: expected 'default' or .*'ntk'"),
    (tiny("llama", rope_scaling={"type": "linear"}), r"rope_parameters: factor is missing"),
    (tiny("mistral", attention_bias=True), r"attention_bias: expected False, got True"),
    (tiny("olmo", clip_qkv=8.0), r"clip_qkv: expected None, got 8.0"),
    (tiny("cohere", use_qk_norm=True), r"use_qk_norm: expected False, got True"),
    (tiny("phi", qk_layernorm=True), r"qk_layernorm: expected False, got True"),
    (tiny("stablelm", hidden_dropout=0.1), r"hidden_dropout: expected 0.0, got 0.1"),
    (tiny("qwen3_moe", mlp_only_layers=[0]), r"mlp_only_layers: expected \[\] or None, got"),
    (tiny("qwen3_moe", use_sliding_window=True), r"use_sliding_window: expected False, got"),
    (tiny("gemma3_text", attn_logit_softcapping=5.0), r"attn_logit_softcapping: expected None"),
    (tiny("gemma3_text", rope_parameters={
        "full_attention": {"rope_theta": 9.0}, "sliding_attention": {"rope_type": "ntk"},
    }), r"local_rope_type: expected 'default' or .*'ntk'"),
    (tiny("gemma", hidden_activation="relu"), r"hidden_activation: unknown option, got 'relu'"),
    (tiny("llama", sliding_window=4), r"sliding_window: unknown option, got 4"),
    (tiny("gemma2", layer_types=["local"]), r"layer_types: expected 1 of sliding_ or full_"),
    (tiny(n_layer="two"), r"the options do not fit together: .*'str'"),
    (tiny("llama", rope_scaling="linear"), r"the options do not fit together: 'str' object"),
    (tiny("t5", feed_forward_proj=None), r"the options do not fit together: 'NoneType'"),
    (tiny(n_head=4), r"the options do not fit together: .*features in 4 heads"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "message"), UNKNOWN)
def test_a_config_that_is_not_known_is_refused(config, message, tmp_path):
    saved(tmp_path, tiny())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(lf.LayerError, match=message):
        from_pretrained(tmp_path)
    with pytest.raises(lf.LayerError, match=message):
        from_config(config)


T5 = "T5ForConditionalGeneration"


@pytest.mark.parametrize(("wrong", "told"), [
    (lambda net, params: lf.plots.graph(net), "expected net to be made by lf.graph"),
    (lambda net, params: lf.interop.from_state_dict(net, {}, params), "; and 21 more"),
    (lambda net, params: save_pretrained(net, params[1:], tiny("t5", T5), "x"), "\n  and 35 more"),
])  # fmt: skip
def test_an_error_about_a_network_of_many_parts_is_short(wrong, told):
    _, said = error_of(wrong, *made(tiny("t5", T5)))
    assert told in said
    assert len(said) < 800


def test_a_copy_of_a_tied_matrix_with_other_numbers_is_refused(tmp_path):
    saved(tmp_path, tiny("gpt2", "GPT2LMHeadModel"))
    rewritten(tmp_path, lambda tensors: tensors.update({"lm_head.weight": torch.ones(11, 6)}))
    assert_says("lm_head.weight: expected the numbers of transformer", from_pretrained, tmp_path)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    for name, text, message in (
        ("notes.txt", "", "config.json cannot be read: "),
        ("config.json", json.dumps(tiny()), "has neither model.safetensors nor model.saf"),
        ("pytorch_model.bin", "", "pytorch_model*.bin is pickled, and nothing is unpickled"),
        ("model.safetensors", "\0" * 9, "cannot be read as safetensors: it has no header"),
    ):
        (tmp_path / name).write_text(text)
        assert_says(message, from_pretrained, tmp_path)


def test_params_that_do_not_fit_the_config_are_not_saved(tmp_path):
    net, params = made(tiny())
    _, said = error_of(save_pretrained, net, params, tiny(n_inner=5, n_layer=2), tmp_path / "new")
    assert "params.2.1.1.0.1.0.weight: expected shape (6, 5), got float32[6, 24]" in said
    assert "params.2.2.0.0.1.query.weight: missing" in said
    assert "params.2.2.1.bias: unexpected" in said
    assert not (tmp_path / "new").exists()
