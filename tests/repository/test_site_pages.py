"""Every page of the site can be overlooked and read: its length, its names, its colours.

By hand, for a site that is built as test_site_search.py says:

    LINCOLN_FN_SITE=site python -m pytest tests/repository/test_site_pages.py
"""

import re
from html import unescape
from itertools import pairwise

import pytest

pytest.importorskip("material", reason="needs the extra `docs`")

TALLEST = 12_000  # pixels, in a window 1,280 wide
SCHEMES = "default", "slate"
# The contrast of each piece of code that is shown, by its class.
CONTRASTS = """(() => {
    const parse = (color) => {
        const [red, green, blue, opacity = 1] = color.match(/[\\d.]+/g).map(Number);
        return [red, green, blue, opacity];
    };
    const over = (above, below) =>
        [0, 1, 2].map((i) => above[i] * above[3] + below[i] * (1 - above[3])).concat(1);
    const light = (color) => {
        const [red, green, blue] = color.slice(0, 3).map((value) =>
            value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05;
    };
    const page = parse(getComputedStyle(document.body).backgroundColor);
    const found = {};
    for (const word of document.querySelectorAll(".md-content pre > code span")) {
        if (!word.textContent.trim() || word.closest("details:not([open])")) continue;
        const block = word.closest("code");
        const below = over(parse(getComputedStyle(block).backgroundColor), page);
        const lights = [light(over(parse(getComputedStyle(word).color), below)), light(below)];
        const contrast = Math.max(...lights) / Math.min(...lights);
        found[word.className] = Math.min(contrast, found[word.className] ?? 21);
    }
    return found;
})()"""


def test_no_page_is_longer_than_thirteen_screens(site, chromium):
    heights = {}
    for file in {*site.rglob("*.html")} - {site / "404.html"}:  # which has no style on the disk
        chromium.open(file.as_uri())
        heights[file] = chromium.run("document.documentElement.scrollHeight")
    assert len(heights) > 200
    print(max((height, str(file)) for file, height in heights.items()))
    assert not {file: height for file, height in heights.items() if height > TALLEST}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_code_stands_out_from_its_ground(site, chromium, scheme):
    for name in ("index", "layers/tanh", "reference/training", "guides/checker"):
        chromium.open((site / f"{name}.html").as_uri())
        chromium.run("document.body.style.transition = 'none'")
        chromium.run(f"document.body.setAttribute('data-md-color-scheme', '{scheme}')")
        chromium.run("new Promise((resolve) => setTimeout(resolve, 1000))")  # colours fade
        contrasts = chromium.run(CONTRASTS)
        assert len(contrasts) > 5
        assert min(contrasts.values()) >= 4.5, (name, contrasts)


def entries(text):
    """List the names in a page's navigation or contents."""
    found = re.findall(r'<span class="md-ellipsis">(.*?)</span>\s*</(?:a|label)>', text, re.DOTALL)
    return [" ".join(unescape(re.sub("<[^>]*>", "", name)).split()) for name in found]


def test_no_name_stands_twice_below_each_other(site):
    for file in site.rglob("*.html"):
        text = re.sub(r'<label[^>]* for="__toc">.*?</label>', "", file.read_text(), flags=re.DOTALL)
        for part in text.split('<nav class="md-nav md-nav--')[1:]:
            twice = [name for name, next_name in pairwise(entries(part)) if name == next_name]
            assert not twice, (file, twice)


def test_no_sentence_is_typeset_as_a_type(site):
    said = re.compile(
        r"(?:Returns|Yields):</span></p>\s*<ul>\s*<li[^>]*>\s*<code>(.*?)</code>", re.DOTALL
    )
    types = [
        text for file in site.glob("reference/*.html") for text in said.findall(file.read_text())
    ]
    assert len(types) > 200
    for text in types:
        words = re.sub(r"'[^']*'|\"[^\"]*\"", "", unescape(re.sub("<[^>]*>", "", text)))
        assert not re.search(r"\w \w", words), text
