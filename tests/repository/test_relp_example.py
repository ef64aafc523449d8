"""The example that compares estimates of patches, with a small model of random weights."""

import pytest
import torch
from helpers.compare import same_number

import lincoln_fn as lf
from lincoln_fn.inspect import outputs, patched

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 16,
    "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 128, "tie_word_embeddings": True,
}  # fmt: skip
PROMPTS = (("the cat is", "the dat is", "a", "b"), ("a day is", "a way is", "x", "y"))


@pytest.fixture
def model(example):
    """Make a model of characters."""
    net, ids = lf.interop.from_config(CONFIG), torch.tensor([[1]])
    params = net.init(lf.Key(0), ids)
    return example("finetune_llm").Model(net, params, lambda text: [*text.encode()], bytes)


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


@pytest.mark.full
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
