"""Sections of a docstring that follow from the signature: pages have them, and sources need not.

A docstring says what its signature cannot. What it leaves out is made here:

    Args       what an argument of a known name and type is, such as `net` and `params`; of
               another that the docstring does not name, which numbers its type takes, or the type
    Returns    the class of what is returned; of a layer, its params
    Raises     which arguments are refused, by the call and by what it makes
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, get_args

from source_files import defined, made_of

from lincoln_fn.errors import annotations, arguments

BEHIND: Final = {
    "Args": ("Returns", "Yields", "Raises", "Warns", "Example", "Examples"),
    "Returns": ("Raises", "Warns", "Example", "Examples"),
    "Raises": ("Example", "Examples"),
}
HEADER: Final = re.compile(r"(Args|Returns|Yields|Raises|Warns|Examples?|Source|Attributes):")
NAME: Final = re.compile(r" {4}\*{0,2}(\w+)")  # that an entry begins with

# By the name and the type of an argument.
ARGUMENTS: Final = {
    ("net", "Layer"): "the network.",
    ("layer", "Layer"): "the layer.",
    ("params", "Params"): "the params, which `init` makes and `forward` is given.",
    ("cache", "Cache"): "what `forward` returned beside y.",
    ("x", "Arrays"): "its input.",
    ("g", "Arrays"): "dL/dy.",
    ("loss", "Loss"): "the loss.",
    ("optimizer", "Optimizer"): "the optimizer.",
    ("group", "Group"): "the processes.",
    ("metric", "ScoreName"): "the score's name.",
    ("state", "TrainState"): "the state.",
    ("tree", "Tree"): "any tree.",
    ("states", "bool"): "whether the tensors inside a `State` are included.",
    ("bias", "bool"): "whether there is a bias.",
    ("maximize", "bool"): "whether to maximize the loss.",
    ("lr", "LearningRate"): "the learning rate, at least 0, or a schedule.",
    ("weight_decay", "NonNegative"): "the factor of p that is added to dp.",
    ("axes", "Axes | None"): "to draw on; None makes a figure.",
    ("stabilizer", "NonNegative"): "is added to the denominators' absolute values.",
    ("zero_bias", "bool"): "whether the bias is left out of z.",
    ("key", "Key"): "the key.",
    ("X", "ArrayLike"): "features, of shape (examples, features).",
    ("stream", "Stream"): "such as `train` yields.",
    ("target", "Arrays"): "the target that the loss takes.",
    ("target", "Target"): "which output is explained, as `gradient` takes it.",
    ("mode", "Mode"): "whether the highest or the lowest is best.",
    ("reduction", "Reduction"): '"mean" over the elements, "sum" of them, or "none".',
    ("weight", "ClassWeights | None"): "w, of shape (C,); None for ones.",
    ("p", "Probability"): "the probability to drop.",
    ("dropout", "Probability"): "the probability to drop a weight during training.",
    ("bias_init", "Initializer"): "draws the biases, by default as `weight_init` does.",
    ("eps", "Epsilon"): "is added to the denominator, so that it is not 0.",
    ("dim", "Dims"): "the axis or the axes, counted from the end if negative; None for all.",
    ("keepdim", "bool"): "whether y keeps the axes, with size 1.",
    ("stride", "PositiveSizes | None"): "steps between windows; None for kernel_size.",
    ("ceil_mode", "bool"): "whether a last window may extend beyond the end.",
    ("num_layers", "PositiveInt"): "how many layers are stacked, each on the outputs of the last.",
    ("bidirectional", "bool"): "whether each layer also runs from the end to the beginning.",
    ("is_causal", "bool"): "whether query i attends only to keys 0 to i, in addition to a mask.",
}
SAME_SHAPE: Final = "x has any shape, and y has the same."
# By what is returned: what its functions refuse.
REFUSED: Final = {
    "Layer": "from its functions, for params, x, a cache or g that do not fit, with the position",
    "Loss": "from its functions, for a prediction or a target that does not fit",
    "Optimizer": "from `update`, for gradients that do not mirror the parameters",
}
RANGES: Final = {
    name: annotations.words(hint)
    for name, hint in vars(arguments).items()
    if any(isinstance(asked, annotations.Range) and asked.words for asked in get_args(hint))
}


class Facts(NamedTuple):
    """What a function's code says of it."""

    parameters: dict[str, str]  # the types as they are written, by name
    returns: str  # "" for nothing
    is_checked: bool  # whether the arguments are checked by their types
    params: str | None  # of the layer that is made: "" for none, None where it is not known
    state: str  # the class of the state of the optimizer that is made
    keeps_shape: bool  # whether it makes a layer whose y has the shape of x, by `forward`'s types

    @property
    def is_of_network(self) -> bool:
        """Whether it calls the functions of a network that it is given."""
        given = self.parameters
        return "Layer" in (given.get("net"), given.get("layer")) and bool({"x", "g"} & {*given})


@cache
def functions(file: Path) -> dict[str, ast.FunctionDef]:
    """Read the functions and methods of a file, by name."""
    found: dict[str, ast.FunctionDef] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            own = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            found |= {f"{node.name}.{each.name}": each for each in own}
        elif family := made_of(node):
            found |= dict.fromkeys(defined(node), found[family])
    return found


def facts_of(node: ast.FunctionDef, file: Path) -> Facts:
    """Read what a function's code says of it."""
    is_family = node.name.endswith("_nd")
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    marks = {_called(getattr(mark, "func", mark)) for mark in node.decorator_list}
    returns = "" if node.returns is None else ast.unparse(node.returns)
    calls = {_called(each.func): each for each in ast.walk(node) if isinstance(each, ast.Call)}
    return Facts(
        {each.arg: ast.unparse(each.annotation) for each in given[is_family:] if each.annotation},
        "" if returns in ("None", "NoReturn") else returns,
        is_checked=is_family or bool(marks & {"constructor", "checked"}),
        params=_params(calls["bare"], file) if "bare" in calls else None,
        state=ast.unparse(calls["leafwise"].args[0]) if "leafwise" in calls else "",
        keeps_shape="bare" in calls and returns == "Layer" and _keeps_shape(file),
    )


def _called(function: ast.expr) -> str:
    return ast.unparse(function).rpartition(".")[2]


def _params(bare: ast.Call, file: Path) -> str | None:
    """Name the params that the `init` in `bare(Layer, forward, backward, init)` makes."""
    is_starred = any(isinstance(each, ast.Starred) for each in bare.args)
    if is_starred or [*map(_called, bare.args[:1])] != ["Layer"]:
        return None
    if len(bare.args) < 4 and "init" not in [keyword.arg for keyword in bare.keywords]:
        return ""
    has_own = re.search(r"^class Params\b", file.read_text(encoding="utf-8"), re.MULTILINE)
    return f"{file.parent.name}.{file.stem}.Params" if has_own else None


def _keeps_shape(file: Path) -> bool:
    forward = functions(file).get("forward")
    hint = forward and next((a.annotation for a in forward.args.args if a.arg == "x"), None)
    if not (forward and hint and forward.returns) or ast.unparse(hint) != "Elements":
        return False
    return ast.unparse(forward.returns).startswith("tuple[Elements, ")


def made_arguments(facts: Facts, docstring: str) -> dict[str, str]:
    """Say what the arguments are that have a known name and type, or that a docstring omits."""
    made: dict[str, str] = {}
    if "Its arguments" in docstring:  # are another's, which says them
        return made
    for name, hint in facts.parameters.items():
        known = ARGUMENTS.get((name, hint))
        if known or not re.search(rf"\b{name}\b", docstring):
            made[name] = known or f"{range_of(hint) or f'`{hint}`'}."
    return made


def made_returns(facts: Facts) -> str:
    """Say what is returned."""
    if facts.params == "":
        return "The layer, without parameters."
    if facts.params:
        return f"The layer, whose params are `{facts.params}`."
    if facts.state:
        return f"The optimizer, whose state is `{facts.state}`."
    is_class = re.fullmatch(r"([A-Z][a-z]+)+", facts.returns) and facts.returns not in ("Any", "T")
    words = " ".join(re.findall("[A-Z][a-z]+", facts.returns)).lower()
    return f"The {words}." if is_class else f"`{facts.returns}`." if facts.returns else ""


def made_errors(facts: Facts) -> list[str]:
    """Say what is refused: by the call, and by the functions of what it makes."""
    parts = []
    if facts.is_checked and facts.parameters:
        ranges = {name: range_of(hint) for name, hint in facts.parameters.items()}
        said = ", ".join(f"`{name}` {words}" for name, words in ranges.items() if words)
        parts.append(f"for an argument that is not of its type{said and ': '}{said}")
    if facts.returns in REFUSED and (facts.is_checked or facts.params is not None):
        parts.append(REFUSED[facts.returns])
    if facts.is_of_network and facts.returns != "Layer":
        parts.append("as the functions of the network do")
    made = [f"LayerError: {'; '.join(parts)}."] if parts else []
    if "Group" in facts.parameters.values():
        made.append("LostProcessError: if a process is gone, also from what is made.")
    if "Axes" in facts.returns:
        made.append("ImportError: if matplotlib is not installed.")
    return made


def range_of(hint: str) -> str:
    """Say which numbers a type takes; "" for one without a range."""
    ranges = [RANGES[word] for word in re.findall(r"\w+", hint) if word in RANGES]
    return " or ".join(dict.fromkeys(ranges))


def sections(docstring: str) -> list[list[str]]:
    """Cut a docstring into its sections, and what stands before, between and behind them."""
    found: list[list[str]] = [[]]
    for line in docstring.strip("\n").split("\n"):
        ends = found[-1] and HEADER.fullmatch(found[-1][0]) and line and line[0] != " "
        if HEADER.fullmatch(line) or ends:
            found.append([])
        found[-1].append(line)
    return [part for part in found if part]


def completed(docstring: str, facts: Facts) -> str:
    """Add to a docstring what it does not say, and the code does."""
    if docstring.startswith("As `"):  # a sibling's, which says it
        return docstring
    parts = sections(docstring)
    if facts.keeps_shape and not re.search(r"\bx has\b", docstring):
        first, *rest = "\n".join(parts[0]).strip("\n").split("\n\n")
        parts[0] = "\n\n".join([first, SAME_SHAPE, *rest]).split("\n")
    own = {part[0].removesuffix(":"): part for part in parts if HEADER.fullmatch(part[0])}
    texts = made_arguments(facts, docstring)
    said = entries(own.get("Args", []))
    all_said = {name: [f"    {name}: {text}"] for name, text in texts.items()} | said
    in_order = sorted(all_said, key=[*facts.parameters, *said].index)
    _put(parts, "Args", [line for name in in_order for line in all_said[name]])
    if not {"Returns", "Yields"} & own.keys() and (returns := made_returns(facts)):
        _put(parts, "Returns", [f"    {returns}"])
    raised = [*filter(None, own.get("Raises", [])[1:])]
    errors = [f"    {each}" for each in made_errors(facts)]
    _put(parts, "Raises", [*raised, *(each for each in errors if each not in raised)])
    return "\n\n".join("\n".join(part).strip("\n") for part in parts)


def _put(parts: list[list[str]], name: str, lines: list[str]) -> None:
    """Give a docstring a section, in the place of its old one."""
    headers = [part[0].removesuffix(":") for part in parts]
    if not lines:
        return
    if name in headers:
        parts[headers.index(name)] = [f"{name}:", *lines]
        return
    at = next((i for i, header in enumerate(headers) if header in BEHIND[name]), len(parts))
    parts.insert(at, [f"{name}:", *lines])


def entries(section: list[str]) -> dict[str, list[str]]:
    """Cut a section of arguments into its entries, by name."""
    found: dict[str, list[str]] = {}
    for line in filter(None, section[1:]):
        if begins := NAME.match(line):
            found[begins[1]] = []
        found[[*found][-1]].append(line)
    return found
