"""The tables of what is proven say what `prove` and `digits` say."""

import re
from pathlib import Path

import pytest
from helpers.cases.case import normal

import lincoln_fn as lf

generate = pytest.importorskip("generate", reason="needs the extra `docs`")
proofs = pytest.importorskip("proofs", reason="needs the extra `docs`")

X = normal(5, 3)


def test_a_row_says_what_is_proven_and_how_many_digits_are_left():
    assumed = {}
    assert re.fullmatch(
        r"\| `tanh\(\)` \| proven \| 6\.\d \| 6\.\d \|", proofs.row(assumed, lf.tanh(), (), X, {})
    )
    for n in (1, 1):
        row = proofs.row(assumed, lf.stop_gradient(), (), X, {})
        assert row == f"| `stop_gradient()` | proven ({n}) | 7.2 | 7.2 |"
    assert assumed == {"what is detached is a constant": 1}


def test_a_row_says_why_not():
    row = proofs.row({}, lf.tanhshrink(), (), X, {})
    assert row.startswith("| `tanhshrink()` | **not decided**: floats see no difference")
    row = proofs.row({}, lf.optim.lion(), (), None, {})
    assert row.startswith("| `lion(0.0001)` | no adjoint: each of its steps is the sign")
    wrong = lf.tanh().replace(backward=lambda params, y, g: (g, ()))
    with pytest.raises(AssertionError, match="refuted"):
        proofs.row({}, wrong, (), X, {})


def test_the_tables_are_put_into_their_page(monkeypatch):
    for name in ("layers", "losses", "optimizers"):
        monkeypatch.setattr(proofs, name, lambda name=name: f"the {name}")
    page = (Path(__file__).parents[2] / "docs/guides/proven.md").read_text()
    made = generate.on_page_markdown(page)
    assert all(f"the {name}" in made for name in ("layers", "losses", "optimizers"))


def test_each_loss_and_each_kind_of_optimizer_has_a_row(monkeypatch):
    monkeypatch.setattr(proofs, "row", lambda assumed, subject, *given: str(subject))
    made = {"losses": proofs.losses(), "optimizers": proofs.optimizers()}
    names = {"losses": lf.losses, "optimizers": lf.optim}
    for kind, text in made.items():
        found = set(re.findall(r"\w+(?=\()", text))
        assert len(found & {*names[kind].__all__}) > 15
