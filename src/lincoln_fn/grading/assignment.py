"""Make an assignment of a layer's file: `python -m lincoln_fn.testing.assignment softmax`.

It writes a folder:

    assignment.py              the teacher's: the reference, the blanks and the cases
    student/softmax.py         the layer's file, with its backward pass blanked
    nbgrader/softmax.ipynb     a source notebook of nbgrader
    otter/softmax.ipynb        a notebook for otter-grader
    otter/tests/softmax.py     its tests
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from lincoln_fn import layers
from lincoln_fn.core import LayerError
from lincoln_fn.grading.blanks import backward_pass, blanked, without_terms
from lincoln_fn.grading.notebooks import nbgrader_notebook, otter_notebook, otter_test_file
from lincoln_fn.testing.internal import floating

_THREE: Final = "(torch.zeros(2, 3, 4), torch.zeros(2, 5, 4), torch.zeros(2, 5, 6))"
_HEADS: Final = "(torch.zeros(2, 3, 4), torch.zeros(2, 5, 2), torch.zeros(2, 5, 3))"
_MASK: Final = "torch.tensor([[True, True, False], [True, True, True]])"
_EDGES: Final = "torch.tensor([[0, 1, 1, 2, 3], [1, 0, 2, 1, 2]])"
_STEPS: Final = "torch.zeros(2, 5, 4)"
_OF_STATE: Final = "torch.zeros(2, 5, 3)"
_KEYS: Final = "torch.zeros(2, 5, 6)"
_INDEX: Final = "torch.tensor([[0, 0], [3, 1], [1, 1]])"
# An activation needs no row: it is made without arguments, and x has the shape (5, 3). Sizes differ
# from each other: in a square matrix, a transposed gradient has the right shape.
EXAMPLES: Final = {
    "adaptive_avg_pool": ("adaptive_avg_pool2d((2, 3))", "torch.zeros(2, 3, 5, 7)"),
    "adaptive_max_pool": ("adaptive_max_pool2d((2, 3))", "torch.zeros(2, 3, 5, 7)"),
    "add": ("add()", "(torch.zeros(5, 3), torch.zeros(5, 3))"),
    "alibi": ("alibi(2)", "torch.zeros(2, 5, 4)"),
    "attention_heads": ("attention_heads(2, 1)", _HEADS),
    "avg_pool": ("avg_pool2d(2)", "torch.zeros(2, 3, 4, 6)"),
    "bilinear": ("bilinear(4)", "(torch.zeros(5, 3), torch.zeros(5, 6))"),
    "broadcast": ("broadcast_tensors()", "(torch.zeros(5, 1, 3), torch.zeros(4, 3))"),
    "class_token": ("class_token()", "torch.zeros(2, 5, 3)"),
    "concatenate": ("concatenate()", "(torch.zeros(5, 3), torch.zeros(5, 4))"),
    "conv": ("conv2d(4, 3, padding=1)", "torch.zeros(2, 3, 5, 6)"),
    "conv_transpose": ("conv_transpose2d(4, 3, 2)", "torch.zeros(2, 3, 4, 5)"),
    "cosine_similarities": ("cosine_similarities()", "(torch.zeros(4, 3), torch.zeros(5, 3))"),
    "dense": ("dense(4)", "torch.zeros(5, 3)"),
    "dilate": ("dilate(2, (1, 2))", "torch.zeros(2, 3, 4)"),
    "embedding": ("embedding(7, 3)", "torch.tensor([[4, 2, 4, 0], [2, 5, 6, 4]])"),
    "flatten": ("flatten()", "torch.zeros(2, 3, 5)"),
    "flip": ("flip(1)", "torch.zeros(5, 3)"),
    "fractional_max_pool": ("fractional_max_pool2d(2, output_size=(3, 4))",
        "torch.zeros(2, 3, 6, 7)"),
    "gated_linear_recurrence": ("gated_linear_recurrence()", f"({_STEPS}, {_STEPS}, {_STEPS})"),
    "gather": ("gather(1)", f"(torch.zeros(3, 4), {_INDEX})"),
    "global_avg_pool": ("global_avg_pool()", "torch.zeros(2, 3, 4, 5)"),
    "glu": ("glu()", "torch.zeros(5, 6)"),
    "graph_attention": ("graph_attention(2)", f"(torch.zeros(3, 5, 4), {_EDGES})"),
    "graph_conv": ("graph_conv()", f"(torch.zeros(3, 5, 4), {_EDGES})"),
    "group_norm": ("group_norm(2)", "torch.zeros(3, 4, 5)"),
    "grouped_query_attention": ("grouped_query_attention(2, 1)", "torch.zeros(3, 5, 8)"),
    "gru": ("gru(2)", "torch.zeros(3, 4, 5)"),
    "instance_norm": ("instance_norm(affine=True)", "torch.zeros(2, 3, 5)"),
    "last_state": ("last_state()", f"(torch.zeros(2, 3, 4), {_MASK})"),
    "linear_attention": ("linear_attention(2)", f"({_KEYS}, {_KEYS}, {_STEPS})"),
    "linear_scan": ("linear_scan()", f"({_STEPS}, {_STEPS})"),
    "local_response_norm": ("local_response_norm(3, alpha=1.0)", "torch.zeros(2, 5, 3)"),
    "lp_pool": ("lp_pool2d(2.0, 2)", "torch.zeros(2, 3, 4, 6)"),
    "lstm": ("lstm(2)", "torch.zeros(3, 4, 5)"),
    "masked_mean": ("masked_mean()", f"(torch.zeros(2, 3, 4), {_MASK})"),
    "matmul": ("matmul()", "(torch.zeros(5, 3), torch.zeros(3, 4))"),
    "max_pool": ("max_pool2d(2)", "torch.zeros(2, 3, 4, 6)"),
    "multi_head_attention": ("multi_head_attention(2)", "torch.zeros(3, 5, 4)"),
    "multiply": ("multiply()", "(torch.zeros(5, 3), torch.zeros(5, 3))"),
    "pad": ("reflection_pad2d((1, 2, 3, 0))", "torch.zeros(2, 3, 4, 5)"),
    "permute": ("permute(0, 2, 1)", "torch.zeros(2, 3, 5)"),
    "pixel_shuffle": ("pixel_shuffle(2)", "torch.zeros(2, 12, 3, 4)"),
    "pixel_unshuffle": ("pixel_unshuffle(2)", "torch.zeros(2, 3, 4, 6)"),
    "positional_embedding": ("positional_embedding(6)", "torch.zeros(2, 5, 3)"),
    "prelu": ("prelu(3)", "torch.zeros(5, 3)"),
    "recurrent_cell": ("gru_cell(4)", "(torch.zeros(5, 3), torch.zeros(5, 4))"),
    "relative_position_bias": ("relative_position_bias(2, 4, 8)", "torch.zeros(2, 5, 4)"),
    "reshape": ("reshape(5, 6)", "torch.zeros(2, 3, 10)"),
    "rnn": ("rnn(2)", "torch.zeros(3, 4, 5)"),
    "rotary_embedding": ("rotary_embedding()", "torch.zeros(2, 5, 4)"),
    "scale": ("scale(0.3)", "torch.zeros(5, 3)"),
    "scaled_dot_product_attention": ("scaled_dot_product_attention()", _THREE),
    "scatter": ("scatter(1, reduce='add')", f"(torch.zeros(3, 4), {_INDEX}, torch.zeros(3, 2))"),
    "selective_scan": ("selective_scan(3)", f"({_STEPS}, {_STEPS}, {_OF_STATE}, {_OF_STATE})"),
    "sinusoidal_positions": ("sinusoidal_positions()", "torch.zeros(2, 5, 4)"),
    "softcap": ("softcap(2.0)", "torch.zeros(5, 3)"),
    "split": ("split(2, 1)", "torch.zeros(3, 5)"),
    "stack": ("stack(1)", "(torch.zeros(5, 3), torch.zeros(5, 3))"),
    "take": ("take(1, -2)", "torch.zeros(2, 5, 3)"),
    "threshold": ("threshold(0.1, 20.0)", "torch.zeros(5, 3)"),
    "timestep_embedding": ("timestep_embedding(6)", "torch.zeros(5)"),
    "token_log_probs": ("token_log_probs()",
        "(torch.zeros(2, 3, 7), torch.tensor([[4, 2, 4], [2, 5, 6]]))"),
    "unflatten": ("unflatten(1, (2, 3))", "torch.zeros(5, 6)"),
    "upsample": ('upsample(scale_factor=2, mode="bilinear")', "torch.zeros(2, 3, 4, 5)"),
    "where": ("where()", f"({_MASK}, torch.zeros(2, 3), torch.zeros(2, 3))"),
}  # fmt: skip

# Files that make no assignment, and why. Of a table, the answer is still there when `backward` is
# blanked.
UNSUITED: Final = {
    **dict.fromkeys(("elementwise", "pairwise", "reductions"), "whose table holds every gradient"),
    **dict.fromkeys(("spectral_norm", "weight_norm"), "which takes another layer"),
    **dict.fromkeys(("alpha_dropout", "stochastic_depth"), "whose backward is that of dropout"),
    "linear_head": "whose gradient comes from its loss",
    "stop_gradient": "whose gradient is 0",
    "grouped_query_attention": "which is made of other layers",
    "vector_quantize": "which is made of other layers",
}


_LAYERS: Final = Path(layers.__path__[0])
_MODULE: Final = '''"""The assignment {name}: the right layer, what is blanked, and the cases.

Grade a class by `python assignment.py handed_in/*.py`.
"""

import sys

import torch

import lincoln_fn as lf

{setup}
blanks = {blanks!r}

if __name__ == "__main__":
    grades = {{}}
    for path in sys.argv[1:]:
        print(repr(path))
        grades[path] = lf.testing.grade(path, reference, cases, hints=1)
        print(grades[path])
    print(lf.testing.Grades(grades))
'''


def files(
    name: str,
    *,
    blank: Sequence[str] = (),
    derivation: bool = False,
    reference: str = "",
    x: str = "",
    seed: int = 0,
) -> Mapping[str, str]:
    """Write the files of an assignment; the arguments are the options of the command."""
    if name in UNSUITED:
        problem = f"expected the file of a layer with a gradient, got {name}, {UNSUITED[name]}"
        raise LayerError("assignment", f"{problem}; write softmax, say")
    names = [path.stem for path in _LAYERS.glob("[a-z]*.py")]
    if name not in names:
        close = get_close_matches(name, names, 1)
        mend = f"; write {close[0]}" if close else ""
        raise LayerError(
            "assignment", f"expected a layer's file, such as softmax, got {name}{mend}"
        )
    call, example = EXAMPLES.get(name, (f"{name}()", "torch.zeros(5, 3)"))
    source = without_terms((_LAYERS / f"{name}.py").read_text())
    blanks = tuple(blank) or backward_pass(source)
    setup = (
        f"reference = {reference or f'lf.{call}'}\n"
        f"cases = lf.testing.make_cases(reference, {x or example}, key=lf.Key({seed}))"
    )
    imports = f"import torch\n\nimport lincoln_fn as lf\n\n{setup}"
    leaves = _leaves(imports)
    student = blanked(source, blanks, derivation=derivation)
    solved = blanked(source, blanks, derivation=derivation, solution=True)
    return {
        "assignment.py": _MODULE.format(name=name, setup=setup, blanks=blanks),
        f"student/{name}.py": f"{student.rstrip()}\n",
        f"nbgrader/{name}.ipynb": nbgrader_notebook(name, solved, blanks, imports, leaves),
        f"otter/{name}.ipynb": otter_notebook(name, student, blanks),
        f"otter/tests/{name}.py": otter_test_file(name, setup, leaves),
    }


def _leaves(code: str) -> list[str]:
    """List the gradients of the cases, by the code that will make them."""
    names: dict[str, object] = {}
    exec(code, names)  # the teacher's own code
    cases = names["cases"]
    assert isinstance(cases, tuple)
    return list(dict.fromkeys(leaf for case in cases for leaf in floating(*case)[0]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m lincoln_fn.testing.assignment", description="Make an assignment of a layer."
    )
    parser.add_argument("name", metavar="layer", help="the name of a layer's file, such as softmax")
    parser.add_argument("--to", type=Path, help="the folder to write; default: the layer's name")
    parser.add_argument(
        "--blank", nargs="+", default=(), metavar="FUNCTION",
        help="the functions to blank; default: the backward pass",
    )  # fmt: skip
    parser.add_argument(
        "--derivation", action=argparse.BooleanOptionalAction, default=False,
        help="leave the derivation in the file; its last lines are the answer",
    )  # fmt: skip
    parser.add_argument("--reference", default="", help='the right layer: "lf.softmax(dim=1)"')
    parser.add_argument("--x", default="", help='an example input: "torch.zeros(5, 3)"')
    parser.add_argument("--seed", type=int, default=0, help="of the cases; default: 0")
    given = vars(parser.parse_args(arguments))
    folder = given.pop("to") or Path(given["name"])
    try:
        made = files(given.pop("name"), **given)
        write(folder, made)
    except LayerError as error:
        parser.error(str(error))
    print(*(folder / path for path in made), sep="\n")


def write(folder: Path, made: Mapping[str, str]) -> None:
    """Write files into a folder."""
    there = [path for path in made if (folder / path).exists()]
    if there:
        problem = f"expected a new folder, but there is {folder / there[0]}; choose another by --to"
        raise LayerError("assignment", problem)
    for path, text in made.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
