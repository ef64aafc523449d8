"""The site's search answers what readers ask, nearly always in its first result.

Its own search is asked: the JavaScript that a browser would run. `.ci/run` builds the site and
names it; by hand that is

    mkdocs build --site-dir site
    LINCOLN_FN_SITE=site python -m pytest tests/repository/test_site_search.py
"""

import json

import pytest

pytest.importorskip("material", reason="needs the extra `docs`")
MiniRacer = pytest.importorskip("py_mini_racer", reason="needs the extra `docs`").MiniRacer

# A question, and the places that answer it; a page without a # stands for all its sections.
QUESTIONS = {
    "how do I freeze a layer?": ["recipes/fine-tuning.html", "faq.html#how-do-i-freeze-a-layer"],
    "requires_grad": ["recipes/fine-tuning.html", "coming-from/torch.html"],
    "does it run on a GPU?": ["guides/devices.html"],
    "how do I clip?": ["recipes/training-loops.html"],
    "gradient accumulation": ["recipes/training-loops.html"],
    "how do I mask padding?": ["recipes/sequences.html"],
    "VAE": ["recipes/generative.html"],
    "GAN": ["recipes/generative.html"],
    "how do I train a siamese network?": ["recipes/images.html"],
    "resnet": ["recipes/images.html"],
    "how do I use a pretrained torch model?": [
        "faq.html#how-do-i-use-a-pretrained-torch-model",
        "recipes/fine-tuning.html",
    ],
    "how do I use two losses?": ["recipes/several.html"],
    "gradients of one example": ["guides/per-example.html"],
    "DataLoader": ["recipes/training-loops.html"],
    "how do I fit a regression?": ["recipes/tables-and-graphs.html"],
    "how do I save and resume a run?": [
        "recipes/training-loops.html",
        "faq.html#how-do-i-resume-a-run",
    ],
    "how do I load a checkpoint?": ["guides/checkpoints.html"],
    "BCELoss": ["losses/log_loss.html"],
    "MultiheadAttention": ["layers/multi_head_attention.html"],
    "can I use it in a notebook?": ["guides/notebook.html"],
    "coming from PyTorch": ["coming-from/torch.html"],
    "how do I install it?": ["index.html", "getting-started.html", "faq.html#installation"],
    "what is new in this version?": ["changelog.html", "faq.html#what-is-new-in-this-version"],
    "how do I write my own layer?": ["own-layer.html"],
    "how do I check a gradient?": ["own-layer.html", "faq.html#how-do-i-check-a-gradient"],
    "which learning rate schedule is there?": ["guides/schedules.html"],
    "how do I stop early?": [
        "recipes/training-loops.html",
        "guides/watching.html",
        "faq.html#how-do-i-stop-early-and-keep-the-best-model",
    ],
    "how fast is it?": ["speed.html", "faq.html#is-it-fast"],
    "how do I compile a step?": ["guides/compile-and-export.html"],
    "mixed precision": ["faq.html#how-do-i-use-mixed-precision-or-bfloat16"],
    "where does a nan come from?": ["faq.html#where-does-a-nan-come-from"],
    "how do I initialise weights?": [
        "guides/initializers.html",
        "faq.html#how-do-i-initialise-the-weights",
    ],
    "does it work with scikit-learn?": ["guides/scikit-learn.html"],
    "dropout": ["layers/dropout.html"],
    "weight decay": [
        "faq.html#how-do-i-use-weight-decay-or-l2-regularization",
        *("guides/optimizers.html", "reference/optimizers.html"),
    ],
    "custom gradient": [
        *("guides/backward-rules.html", "own-layer.html"),
        "faq.html#how-do-i-write-a-custom-gradient",
    ],
    "deploy": ["recipes/deploy.html"],
    "onnx": [
        "guides/compile-and-export.html",
        "recipes/deploy.html",
        "faq.html#how-do-i-export-to-onnx",
    ],
    "reproducible": ["faq.html#how-do-i-set-a-seed-for-reproducible-numbers"],
    "time series": ["recipes/sequences.html"],
    "k-fold": ["guides/scikit-learn.html", "faq.html#how-do-i-cross-validate-with-k-folds"],
    "zero_grad": ["faq.html#where-is-zero_grad", "coming-from/torch.html"],
    "multi-gpu": ["guides/devices.html"],
    "number of parameters": ["faq.html#how-do-i-see-the-number-of-parameters-and-the-shapes"],
    "exploding gradients": [
        "recipes/training-loops.html",
        "faq.html#what-do-i-do-about-exploding-or-vanishing-gradients",
    ],
    "tutorial": ["getting-started.html"],
    "transformer": ["recipes/language-models.html"],
    "early stopping": ["recipes/training-loops.html"],
    "data augmentation": ["recipes/images.html"],
    "tokenizer": ["recipes/sequences.html"],
    "sampling": ["guides/writing-text.html", "reference/samplers.html"],
    "what is a cache?": [
        "notebooks/what_a_cache_is.html",
        "contract.html",
        "core.html#params-caches-and-states-are-records",
    ],
    "learning rate schedule": ["guides/schedules.html"],
    "save model": ["guides/checkpoints.html", "faq.html#how-do-i-save-and-load-a-model"],
    "multi gpu": ["guides/devices.html"],
    "momentum": ["guides/optimizers.html", "reference/optimizers.html"],
    "cosine annealing": ["guides/schedules.html", "reference/schedules.html"],
    "kv cache": ["guides/writing-text.html"],
    "differential privacy": ["guides/per-example.html"],
    "quantization": ["guides/fine-tuning.html"],
    "distributed": ["guides/distributed.html"],
    "class weights": ["guides/losses.html", "faq.html#how-do-i-handle-imbalanced-classes"],
    "pandas": ["guides/scikit-learn.html"],
    "license": ["faq.html#how-is-it-licensed-and-how-do-i-cite-it"],
    "cite": ["faq.html#how-is-it-licensed-and-how-do-i-cite-it"],
    "colab": ["faq.html#does-it-run-in-colab"],
    "image classification": ["recipes/images.html", "faq.html#how-do-i-classify-images"],
    "reinforcement learning": ["faq.html#is-there-reinforcement-learning"],
    "gradient clipping": ["recipes/training-loops.html"],
    "dataloader shuffle": ["recipes/training-loops.html"],
}

# What the search's script uses of a browser.
BROWSER = """
var self = globalThis, window = globalThis, location = {protocol: "http:"};
var console = {warn() {}, log() {}};
var receivers = [], answers = [];
class EventTarget {}
class Worker { postMessage(message) { receivers.forEach((receive) => receive({data: message})); } }
window.Worker = Worker;
function addEventListener(kind, receive) { receivers.push(receive); }
function postMessage(answer) { answers.push(answer); }
"""
ASKED = """
var worker = new window.Worker();
function ask(message) { answers = []; worker.postMessage(message); return 0; }
"""


@pytest.fixture(scope="module")
def ask(site):
    (worker,) = (site / "assets/javascripts/workers").glob("search.*.min.js")
    ours = site / "assets/search-iframe-worker.js"
    index = json.loads((site / "search/search_index.json").read_text())
    with MiniRacer() as engine:
        engine.eval(BROWSER + worker.read_text())
        engine.eval(ours.read_text() + ASKED)

        def answer(kind, data):
            engine.call("ask", {"type": kind, "data": data})
            return json.loads(engine.eval("JSON.stringify(answers)"))[0]

        assert answer(0, {**index, "options": {"suggest": False}}) == {"type": 1}  # it is ready
        yield lambda question: [
            [section["location"] for section in page]
            for page in answer(2, question)["data"]["items"]
        ]


def test_the_search_answers_in_its_first_result_and_always_in_three(ask):
    assert len(QUESTIONS) >= 70
    missed, first = {}, 0
    for question, places in QUESTIONS.items():
        # A result is a page; its section that fits best stands first.
        found = [{page[0], page[0].partition("#")[0]} for page in ask(question)[:3]]
        if not set().union(*found).intersection(places):
            missed[question] = found
        first += bool(found and found[0].intersection(places))
    assert not missed
    assert first >= 0.95 * len(QUESTIONS)


def test_a_question_and_its_telling_words_find_the_same(ask):
    assert ask("how do I freeze a layer?") == ask("freeze layer")
    assert ask("how do I") != []  # a query of nothing else stays as it is


def test_the_site_works_from_the_disk(site):
    index = (site / "search/search_index.js").read_text()
    assert index.startswith("var __index = {")
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert '<script src="https:' not in text, page
        if page.name != "404.html":
            assert "assets/search-iframe-worker.js" in text, page
