"""The page that trains in the browser takes Python's steps, in Chromium, opened from the disk.

By hand, for a site that is built as test_site_search.py says:

    LINCOLN_FN_SITE=site python -m pytest tests/repository/test_site_training.py
"""

import time

import pytest
import torch
from helpers.compare import same_number

pytest.importorskip("material", reason="needs the extra `docs`")
pytest.importorskip("onnx")

import browser
import packed

STEPS, WIDTH, TRAINED = 50, 16, 1440  # the page trains on this many digits
LOSSES = """async (rule, width, steps, batch, trained) => {
    const [digits, network] = [await training.digits(), await training.network(rule, width)];
    const losses = [];
    for (let i = 0; i < steps; i++) {
        const rows = [batch * i % trained, batch * i % trained + batch];
        losses.push(await network.step(digits.images(...rows), digits.labels(...rows), 0.3));
    }
    return losses;
}"""
STATUS = "document.querySelector('[data-part=status]').textContent"
CLICK = "document.querySelector('[data-do=%s]').click()"
CHOOSE = """{
    const rule = document.querySelector("[name=rule]");
    rule.value = "%s";
    rule.dispatchEvent(new Event("change", { bubbles: true }));
}"""
PATIENCE = 60  # seconds


@pytest.fixture(scope="module")
def page(site, chromium):
    """Open the page from the disk."""
    if not (site / packed.folder("training") / "runtime.wasm.js").is_file():
        pytest.skip("the site was built without npm or network, and lacks onnxruntime-web")
    chromium.open((site / "train-in-your-browser.html").as_uri())
    return chromium


def test_nothing_is_loaded_before_it_is_asked_for(page, site):
    loaded = page.run("[...document.scripts].map((one) => one.src)")
    assert any(name.endswith("training/page.js") for name in loaded)
    assert not [name for name in loaded if "/packed/" in name]
    files = (site / packed.folder("training")).iterdir()
    assert sum(file.stat().st_size for file in files) < 12e6


def losses_here(rule):
    """Take the page's first steps in Python."""
    (images, labels), (step, state) = browser.digits(), browser.start(rule, WIDTH)
    losses = []
    for i in range(STEPS):
        first = browser.BATCH * i % TRAINED
        rows = slice(first, first + browser.BATCH)
        state, loss = step(state, (images[rows] / 16, labels[rows]))
        losses.append(loss)
    return torch.stack(losses)


@pytest.mark.parametrize("rule", browser.RULES)
def test_fifty_steps_in_the_browser_are_fifty_steps_in_python(page, rule):
    losses = page.run(f"({LOSSES})('{rule}', {WIDTH}, {STEPS}, {browser.BATCH}, {TRAINED})")
    assert same_number(torch.tensor(losses), losses_here(rule))


def wait_for(page, words):
    """Wait until the page says these words, and return all that it says."""
    end = time.monotonic() + PATIENCE
    while words not in (said := page.run(STATUS)):
        assert time.monotonic() < end, said
        page.run("new Promise((passed) => setTimeout(passed, 20))")
    return said


def text(page, name):
    """Return what a part of the page says."""
    return page.run(f"document.querySelector('[data-part={name}]').textContent")


def angles(page):
    """Return the angles of the three layers' gradients to the true ones, in degrees."""
    return [int(text(page, f"angle-{i}").removesuffix("\N{DEGREE SIGN}")) for i in range(3)]


def test_buttons_train_and_what_is_drawn_is_read(page):
    page.run(CLICK % "train")
    wait_for(page, "90 % after")
    page.run(CLICK % "train")  # pause
    assert angles(page) == [0, 0, 0]  # they are backpropagation's own
    page.run("document.querySelector('[data-part=pad]').focus()")
    for key in [" ", *["ArrowDown"] * 16]:  # a one
        for kind in ("keyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key=key)
    page.run(CLICK % "once")
    page.run(CLICK % "again")
    wait_for(page, "Step 1 ")
    assert "with probability" in text(page, "says")
    page.run(CHOOSE % "fa")
    page.run(CLICK % "once")
    wait_for(page, "Step 2 ")
    first, _, last = angles(page)
    assert 30 < first < 150  # other matrices on the way back
    assert last == 0  # the output has no layer behind it
