"""Adapters of LoRA beside Hugging Face's PEFT: outputs, gradients, and files in both directions.

Run by a Python that has both libraries, as test_families.py.
"""

import pytest
import torch
from helpers.parity import ROUNDING, off, perturbed

import lincoln_fn as lf

transformers = pytest.importorskip("transformers", reason="compares with Hugging Face's library")
peft = pytest.importorskip("peft", reason="compares with Hugging Face's library")

pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings("ignore"),  # those of the other libraries
]

IDS = torch.randint(31, (3, 9), generator=torch.Generator().manual_seed(3))
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 31,
    "intermediate_size": 14, "attn_implementation": "eager",
}  # fmt: skip
CONFIGS = {
    "Llama": transformers.LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=True),
    "Phi3": transformers.Phi3Config(**SIZES, num_key_value_heads=2, pad_token_id=0),
    "GPTNeoX": transformers.GPTNeoXConfig(**SIZES),
    "GPT2": transformers.GPT2Config(
        n_embd=12, n_layer=2, n_head=4, vocab_size=31, n_positions=16, attn_pdrop=0, embd_pdrop=0,
        resid_pdrop=0,
    ),
}  # fmt: skip
TARGETS = {
    "Llama": ["q_proj", "v_proj", "down_proj"], "Phi3": ["qkv_proj", "gate_up_proj"],
    "GPTNeoX": ["query_key_value", "dense"], "GPT2": ["c_attn", "mlp.c_proj"],
}  # fmt: skip
OPTIONS = {
    "r": 3, "lora_alpha": 5, "rank_pattern": {"layers.1.self_attn.q_proj": 2},
    "alpha_pattern": {"self_attn.q_proj": 7},
}  # fmt: skip


def base(name):
    torch.manual_seed(0)
    kind = {"GPT2": "GPT2LMHeadModel"}.get(name, f"{name}ForCausalLM")
    return perturbed(getattr(transformers, kind)(CONFIGS[name]))


def adapted(name, folder, **options):
    """A model with an adapter, which is saved, and the network that reads it."""
    config = peft.LoraConfig(target_modules=TARGETS[name], task_type="CAUSAL_LM", **options)
    model = perturbed(peft.get_peft_model(base(name), config))
    # The base is what it was: only the adapter has moved.
    own = base(name).state_dict()
    with torch.no_grad():
        for path, tensor in model.get_base_model().state_dict().items():
            if "lora_" not in path:
                tensor.copy_(own[path.replace(".base_layer", "")])
    model.save_pretrained(folder / "adapter")
    base(name).save_pretrained(folder / "base")
    net, params, config = lf.interop.from_pretrained(folder / "base")
    return model, net, params, config


@pytest.mark.parametrize("options", [OPTIONS, {"r": 4, "use_rslora": True}], ids=["r", "rslora"])
@pytest.mark.parametrize("name", CONFIGS)
def test_an_adapter_of_peft_computes_the_same(name, options, tmp_path):
    model, net, params, config = adapted(name, tmp_path, **options)
    net, params = lf.load_adapter(net, params, config, tmp_path / "adapter")
    expected = model(IDS).logits
    y, cache = net.forward(params, IDS)
    assert off(y, expected) < ROUNDING
    assert off(y, base(name)(IDS).logits) > 0.01
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    (weights * expected).sum().backward()
    dparams = net.grads(params, cache, weights)
    theirs = [p.grad for path, p in model.named_parameters() if "lora_B" in path]
    ours = [
        leaf
        for path, leaf in zip(lf.tree.paths(dparams), lf.tree.leaves(dparams), strict=True)
        if path.endswith("lora_b.weight")
    ]
    # However B is divided, its gradient has the same numbers.
    sizes = [sum(leaf.square().sum() for leaf in leaves) for leaves in (ours, theirs)]
    assert off(sizes[0], sizes[1]) < ROUNDING
    # And back: PEFT reads the same from what is written.
    lf.save_adapter(net, params, config, tmp_path / "again")
    again = peft.PeftModel.from_pretrained(base(name), tmp_path / "again")
    assert off(again(IDS).logits, expected) < ROUNDING
    own, same = (peft.get_peft_model_state_dict(each) for each in (model, again))
    assert own.keys() == same.keys()
    assert all(torch.equal(own[path], same[path]) for path in own)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_adapter_of_ours_is_read_by_peft(name, tmp_path):
    """Also of query and value alone, which may be parts of one matrix there."""
    base(name).save_pretrained(tmp_path / "base")
    net, params, config = lf.interop.from_pretrained(tmp_path / "base")
    net, params = lf.lora(net, params, lf.Key(1), r=2, alpha=3.0)
    params = lf.tree.map(lambda leaf: leaf + 0.1 * torch.randn_like(leaf), params)
    lf.save_adapter(net, params, config, tmp_path / "adapter")
    model = peft.PeftModel.from_pretrained(base(name), tmp_path / "adapter")
    assert off(net.predict(params, IDS), model(IDS).logits) < ROUNDING
    net, params, config = lf.interop.from_pretrained(tmp_path / "base")
    again, loaded = lf.load_adapter(net, params, config, tmp_path / "adapter")
    assert off(again.predict(loaded, IDS), model(IDS).logits) < ROUNDING
