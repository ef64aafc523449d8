"""Adapters in PEFT's files, written by hand: the matrices that they make, and what is refused.

`tests/interop/pretrained` compares with PEFT.
"""

import json

import pytest
import torch
from helpers import assert_says, same_bits, same_number
from safetensors.torch import load_file, save_file

import lincoln_fn as lf

IDS = torch.tensor([[3, 1, 4, 1], [5, 9, 2, 6]])
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 6,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 5, "vocab_size": 11, "head_dim": 4,
}  # fmt: skip
GPT2 = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 6, "n_layer": 1,
    "n_head": 2, "vocab_size": 11, "n_positions": 8,
}  # fmt: skip
QUERY = "model.layers.0.self_attn.q_proj"
FUSED = "transformer.h.0.attn.c_attn"
OPTIONS = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "bias": "none", "target_modules": ["x"]}


def made(config):
    net = lf.interop.from_config(config)
    return net, net.init(lf.Key(3), IDS)


def written(folder, shapes, **options):
    """Write an adapter of matrices A and B by module, or of A alone."""
    generator = torch.Generator().manual_seed(4)
    tensors = {
        f"base_model.model.{module}.lora_{letter}.weight": torch.randn(shape, generator=generator)
        for module, pair in shapes.items()
        for letter, shape in zip("AB", pair, strict=False)
    }
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**OPTIONS, **options}))
    return tensors


SHAPES = {QUERY: [(2, 6), (8, 2)]}
ONE = {FUSED: [(2, 6), (18, 2)]}


@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_an_adapter_adds_its_product_to_the_matrix_of_the_file(config, tmp_path):
    net, params = made(config)
    module, shapes = (QUERY, SHAPES) if config is LLAMA else (FUSED, ONE)
    a, b = written(tmp_path / "adapter", shapes).values()
    loaded = lf.load_adapter(net, params, config, tmp_path / "adapter")
    lf.interop.save_pretrained(*lf.merge_lora(*loaded), config, tmp_path / "merged")
    lf.interop.save_pretrained(net, params, config, tmp_path / "base")
    merged, base = (load_file(tmp_path / name / "model.safetensors") for name in ("merged", "base"))
    update = 1.5 * b @ a
    expected = base[f"{module}.weight"] + (update if config is LLAMA else update.mT)
    assert same_number(merged.pop(f"{module}.weight"), expected)
    assert all(same_bits(tensor, base[name]) for name, tensor in merged.items())
    assert all("lora" in path for path in lf.tree.paths(loaded[1]))


def test_an_adapter_of_several_layers_that_are_one_matrix_there_has_blocks(tmp_path):
    net, params = made(GPT2)
    net, params = lf.lora(net, params, lf.Key(1), r=2, alpha=3.0)
    params = lf.tree.map(lambda leaf: leaf + 1, params)
    lf.save_adapter(net, params, GPT2, tmp_path)
    a, b = load_file(tmp_path / "adapter_model.safetensors").values()
    assert a.shape == (4, 6)
    assert (b != 0).tolist() == [[True] * 2 + [False] * 2] * 6 + [[False] * 4] * 6 + [
        [False] * 2 + [True] * 2
    ] * 6
    options = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (options["r"], options["lora_alpha"], options["fan_in_fan_out"]) == (4, 6.0, True)
    own = made(GPT2)
    again, loaded = lf.load_adapter(*own, GPT2, tmp_path)
    assert same_number(again.predict(loaded, IDS), net.predict(params, IDS))
    assert not same_number(own[0].predict(own[1], IDS), net.predict(params, IDS))


def test_dropout_and_other_ranks_are_kept(tmp_path):
    net, params = made(LLAMA)
    shapes = {**SHAPES, "model.layers.0.mlp.up_proj": [(3, 6), (5, 3)]}
    options = {"lora_dropout": 0.25, "rank_pattern": {"up_proj": 3}, "alpha_pattern": {"mlp.*": 6}}
    tensors = written(tmp_path, shapes, **options)
    net, params = lf.load_adapter(net, params, LLAMA, tmp_path)
    assert sum(path.endswith("lora_a.weight") for path in lf.tree.paths(params)) == 2
    assert not same_number(net.forward(params, IDS)[0], net.predict(params, IDS))
    lf.save_adapter(net, params, LLAMA, tmp_path / "again")
    again = load_file(tmp_path / "again" / "adapter_model.safetensors")
    assert same_bits(again, tensors)
    config = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
    assert config["lora_dropout"] == 0.25
    assert config["rank_pattern"] == {"model.layers.0.mlp.up_proj": 3}
    assert config["alpha_pattern"] == {"model.layers.0.mlp.up_proj": 6.0}


UNKNOWN = [
    (SHAPES, {"use_dora": True}, "use_dora: unknown option, got True"),
    (SHAPES, {"peft_type": "LOHA"}, "peft_type: expected 'LORA', got 'LOHA'"),
    (SHAPES, {"bias": "all"}, "bias: expected 'none', got 'all'"),
    (SHAPES, {"modules_to_save": ["lm_head"]}, "modules_to_save: unknown option"),
    (SHAPES, {"init_lora_weights": "pissa"}, "init_lora_weights: expected True or .*'pissa'"),
    ({"model.layers.1.mlp.up_proj": [(2, 6), (5, 2)]}, {},
     r"layers.1.mlp.up_proj.lora_A.weight: expected the name of a dense layer of the model"),
    ({QUERY: [(2, 6), (8, 3)]}, {}, r"expected shapes \(r, 6\) and \(8, r\) of A and B, got"),
    ({QUERY: [(0, 6), (8, 0)]}, {}, r"expected shapes \(r, 6\) and \(8, r\) of A and B, got"),
    ({"model.norm": [(2, 6), (6, 2)]}, {}, "norm.lora_A.weight: expected the name of a dense"),
    ({QUERY: [(2, 6)]}, {}, r"of A and B, got \(2, 6\) and None"),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "options", "message"), UNKNOWN)
def test_an_adapter_that_is_not_known_is_refused(shapes, options, message, tmp_path):
    net, params = made(LLAMA)
    written(tmp_path, shapes, **options)
    told = f"load_adapter: differs from what is known:\n.*{message}"
    with pytest.raises(lf.LayerError, match=told):
        lf.load_adapter(net, params, LLAMA, tmp_path)


def test_what_has_no_adapter_is_not_saved(tmp_path):
    net = made(LLAMA)
    mixed = lf.lora(*net, lf.Key(0), targets=("*.query",), dropout=0.25)
    for given, message in (
        (net, "save_adapter: expected updates of ... , got none"),
        (lf.dora(*net, lf.Key(0)), "save_adapter: expected updates of lora, got one of d"),
        (lf.lora(*mixed, lf.Key(1), targets=("*.value.0",)), "one dropout, ... , got [0.0, 0.25]"),
    ):
        assert_says(message, lf.save_adapter, *given, LLAMA, tmp_path)
    message = "load_adapter: ... adapter_config.json cannot be read"
    assert_says(message, lf.load_adapter, *net, LLAMA, tmp_path)
