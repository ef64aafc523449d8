"""GGUF files: every quantisation has the gguf library's numbers, and llama.cpp's changes undone."""

import numpy as np
import pytest
import torch
from helpers import assert_says, error_of, same_bits

import lincoln_fn as lf
from lincoln_fn.interop import from_gguf, from_pretrained, save_pretrained

gguf = pytest.importorskip("gguf", reason="reads GGUF files by the gguf library")
quants = pytest.importorskip("gguf.quants")

# A row of 256 is one block of the K quantisations.
WIDTH, HEADS, VOCABULARY = 256, 2, 8
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K"]
LINEARS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def quantised(values, name):
    """Quantise a matrix, or for what the library does not quantise, make a block for each row."""
    kind = gguf.GGMLQuantizationType[name]
    if name == "Q4_K":  # two half floats, then 12 + 128 bytes
        rows = np.random.default_rng(0).integers(0, 256, (len(values), 144), np.uint8)
        rows[:, :4] = np.array([0.02, 0.01], np.float16).view(np.uint8)
    elif name == "Q6_K":  # 208 bytes, then a half float
        rows = np.random.default_rng(1).integers(0, 256, (len(values), 210), np.uint8)
        rows[:, 208:] = np.array([0.001], np.float16).view(np.uint8)
    else:
        rows = quants.quantize(values, kind)
    return rows, kind


def permuted(weight, heads):
    """Put the rows of queries or keys into llama.cpp's order, as its converter does."""
    shape = (heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return weight.reshape(shape).swapaxes(1, 2).reshape(weight.shape)


def written(path, types=("F32",), architecture="llama", options=None, tensors=None, offset=0.0):
    """Write a file of one layer; return its tensors by Hugging Face's names, in its order."""
    draw = np.random.default_rng(3)
    writer = gguf.GGUFWriter(path, architecture)
    sizes = {
        "block_count": 1, "context_length": 32, "embedding_length": WIDTH,
        "feed_forward_length": WIDTH, "attention.head_count": HEADS,
        "attention.head_count_kv": HEADS, **(options or {}),
    }  # fmt: skip
    for name, value in sizes.items():
        writer.add_key_value(
            f"{architecture}.{name}",
            value,
            gguf.GGUFValueType.FLOAT32 if isinstance(value, float) else gguf.GGUFValueType.UINT32,
        )
    expected = {}
    named = {f"blk.0.{theirs}": f"model.layers.0.{ours}" for theirs, ours in LINEARS.items()}
    named["token_embd"] = "model.embed_tokens"
    for i, (theirs, ours) in enumerate(named.items()):
        rows = VOCABULARY if theirs == "token_embd" else WIDTH
        values = draw.normal(size=(rows, WIDTH)).astype(np.float32)
        data, kind = quantised(values, types[i % len(types)])
        writer.add_tensor(f"{theirs}.weight", data, raw_dtype=kind)
        expected[f"{ours}.weight"] = torch.from_numpy(quants.dequantize(data, kind).copy())
    norms = {f"blk.0.{theirs}": f"model.layers.0.{ours}" for theirs, ours in NORMS.items()}
    for theirs, ours in {**norms, "output_norm": "model.norm", **(tensors or {})}.items():
        values = draw.normal(size=WIDTH).astype(np.float32)
        writer.add_tensor(f"{theirs}.weight", values + np.float32(offset))
        expected[f"{ours}.weight"] = torch.from_numpy(values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def loaded(path, **options):
    """Return a file's tensors by Hugging Face's names, and the config."""
    net, params, config = from_gguf(path, **options)
    folder = path.parent / "folder"
    save_pretrained(net, params, config, folder)
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    again, same, _ = from_pretrained(folder)
    assert again.name == net.name
    assert same_bits(lf.tree.leaves(same), lf.tree.leaves(params))
    return tensors, config


@pytest.mark.full(but=("[F32", "[Q4_K"))
@pytest.mark.parametrize("name", TYPES)
def test_every_tensor_is_what_the_library_makes_of_it(name, tmp_path):
    expected = written(tmp_path / "model.gguf", [name])
    tensors, _ = loaded(tmp_path / "model.gguf")
    for part in ("q_proj", "k_proj"):
        own = f"model.layers.0.self_attn.{part}.weight"
        tensors[own] = torch.from_numpy(permuted(tensors[own].numpy(), HEADS).copy())
    assert tensors.keys() == expected.keys()
    for own, tensor in expected.items():
        assert same_bits(tensors[own], tensor), own


def test_a_config_has_the_options_of_the_file(tmp_path):
    options = {"rope.freq_base": 50.0, "attention.layer_norm_rms_epsilon": 0.25}
    options |= {"attention.key_length": WIDTH // HEADS, "rope.dimension_count": WIDTH // HEADS}
    written(tmp_path / "model.gguf", options=options)
    _, config = loaded(tmp_path / "model.gguf", dtype=torch.bfloat16)
    assert config == {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1,
        "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "head_dim": WIDTH // HEADS, "vocab_size": VOCABULARY,
        "max_position_embeddings": 32, "rope_theta": 50.0, "rms_norm_eps": 0.25,
        "tie_word_embeddings": True,
    }  # fmt: skip


def test_gemmas_norms_and_names_are_undone(tmp_path):
    more = {
        "blk.0.ffn_norm": "model.layers.0.pre_feedforward_layernorm",
        "blk.0.post_attention_norm": "model.layers.0.post_attention_layernorm",
        "blk.0.post_ffw_norm": "model.layers.0.post_feedforward_layernorm",
    }
    options = {"attention.key_length": 128, "attention.sliding_window": 4}
    expected = written(
        tmp_path / "model.gguf", architecture="gemma2", options=options, tensors=more, offset=1.0
    )
    tensors, config = loaded(tmp_path / "model.gguf")
    assert (config["query_pre_attn_scalar"], tensors.keys()) == (128, expected.keys())
    for name, tensor in expected.items():
        torch.testing.assert_close(tensors[name], tensor, rtol=0, atol=3e-7)


def test_one_error_lists_what_is_not_known(tmp_path):
    path = tmp_path / "model.gguf"
    written(path, options={"expert_count": 4, "rope.dimension_count": 64},
            tensors={"blk.0.rope_freqs": "x"})  # fmt: skip
    assert sorted(error_of(from_gguf, path)[1].splitlines()) == [
        "  blk.0.rope_freqs.weight: unexpected",
        "  expert_count: unknown option, got 4",
        "  rope.dimension_count: unknown option, got 64",
        "from_gguf: differs from what is known:",
    ]
    from_gguf(path, ignore=("expert_count", "rope.*", "*rope_freqs*"))
    written(path, architecture="mamba")
    assert_says("general.architecture: expected one of gemma2, ... 'mam", from_gguf, path)
    path.write_bytes(b"no GGUF at all")
    assert_says("model.gguf cannot be read as GGUF: ", from_gguf, path)
    assert_says("absent.gguf: no such file", from_gguf, tmp_path / "absent.gguf")
