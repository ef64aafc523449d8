"""Write the pages of the layers and the losses: each page is its file, typeset."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from fnmatch import fnmatch
from typing import Final

import curves
import jacobians
from prose import with_formulas
from source_files import BOTH_WAYS, SOURCE, File, Paragraph, paths, reachable, read

import lincoln_fn as lf
from lincoln_fn import vocabulary

# The pattern that fits a layer's name or its kind first gives the family; what fits none is an
# activation.
FAMILIES: Final = {
    "Products and convolutions": (
        *("dense", "linear_head", "bias", "bilinear", "conv*", "cosine_similarities"),
    ),
    "Arithmetic": (
        "add",
        "multiply",
        "pairwise",
        "matmul",
        "where",
        "reductions",
        "logsumexp",
        "variance",
        "jvp",
    ),
    "Activations": (),
    "Normalisation": ("*_norm", "normalize"),
    "Pooling": ("*_pool",),
    "Graphs": ("graph_*",),
    "Sequences": (
        *("*embedding*", "*_positions", "recurrent*", "*attention*"),
        *("*_recurrence", "*_scan"),
        *("alibi", "relative_position_bias"),
        *("class_token", "last_state", "masked_mean", "token_log_probs", "vector_quantize"),
    ),
    "Randomness": ("*dropout",),
    "Shapes and merging": (
        *("identity", "flatten", "unflatten", "reshape", "permute", "*shuffle", "pad", "upsample"),
        *("take", "concatenate", "stack", "split", "broadcast", "stop_gradient"),
        *("flip", "dilate", "gather", "scatter"),
    ),
}
REFERENCE: Final = re.compile(r"^<!-- reference: (\w+) -->$", re.MULTILINE)
KIND: Final = re.compile(r'kind="(\w+)"')
PROTOCOL: Final = ("init", "forward", "backward", "predict", "input_grad", "grads", "advance")


def family(name: str) -> str:
    """Return the family of a layer, the section of the navigation that it stands in.

    Args:
        name: of the layer's file.

    Returns:
        A key of `FAMILIES`.
    """
    words = [name, *KIND.findall((SOURCE / f"layers/{name}.py").read_text(encoding="utf-8"))]
    for key, patterns in FAMILIES.items():
        if any(fnmatch(word, pattern) for word in words for pattern in patterns):
            return key
    return "Activations"


def by_family() -> dict[str, list[str]]:
    """Return the names of the layers' files by family, in the order of `FAMILIES`."""
    names = [read(path).name for path in paths("layers")]
    return {key: [name for name in names if family(name) == key] for key in FAMILIES}


def layers_table() -> str:
    """Write the table of all layers, in alphabetical order."""
    files = map(read, paths("layers"))
    rows = [f"| {_link(file)} | {summary(file)} | {family(file.name)} |" for file in files]
    return "\n".join(["| layer | what it does | family |", "| --- | --- | --- |", *rows])


def losses_table() -> str:
    """Write the table of all losses, in alphabetical order."""
    rows = [f"| {_link(file)} | {summary(file)} |" for file in map(read, paths("losses"))]
    return "\n".join(["| loss | what it is |", "| --- | --- |", *rows])


def references(markdown: str) -> str:
    """Put the docstrings of a room's public functions in the place of `<!-- reference: room -->`.

    Args:
        markdown: a page.

    Returns:
        The page, with a line for each function that the library's face has of the room, and that
        the page does not name itself.
    """
    own = set(markdown.splitlines())
    return REFERENCE.sub(
        lambda found: "\n".join(line for line in _of_room(found[1]) if line not in own), markdown
    )


def _of_room(room: str) -> list[str]:
    homes = {name: getattr(getattr(lf, name), "__module__", "") for name in lf.__all__}
    own = [name for name, home in homes.items() if home.startswith(f"lincoln_fn.{room}.")]
    return [f"::: {homes[name]}.{name}" for name in sorted(own)]


def _link(file: File) -> str:
    return f"[{file.name}]({file.name}.md)"


def summary(file: File) -> str:
    """Return the first paragraph of a file, its formulas marked.

    Args:
        file: the file.

    Returns:
        Markdown, in one line.
    """
    return with_formulas(" ".join(file.docstring[0].lines), file.names)


def tags(path: str) -> str:
    """Write a page's front matter: torch's names of a file's constructors, for the search.

    Args:
        path: the file's, such as "losses/log_loss".

    Returns:
        The front matter. It leaves out the contents at the side, so that no line of code scrolls.
    """
    home = "losses." if path.startswith("losses/") else ""
    ours = {f"{home}{key}" for key in read(path).constructors}
    names = [row.theirs.removeprefix("nn.") for row in vocabulary.table() if row.ours in ours]
    tagged = f"tags: [{', '.join(names)}]\n" if names else ""
    return f"---\nhide: [toc]\n{tagged}---\n\n"


def page(path: str) -> str:
    """Write the page of a layer or a loss.

    Args:
        path: the file's, such as "layers/relu".

    Returns:
        Markdown.
    """
    file = read(path)
    shown = reachable(path, BOTH_WAYS)
    own = shown.pop(path)
    hidden = (*own, *file.constructors, *file.families)
    rest = [key for key in file.definitions if key not in hidden]
    parts = [f"# {file.name}", summary(file), *_picture(file)]
    parts += [markdown(file.docstring[1:], file.names), "## Code", *_borrowed(file)]
    parts.append(_code(file, own))
    if rest:
        functions = [f"`{key}`" for key in rest if key in PROTOCOL]
        parts.append(_folded(", ".join(functions) or "The rest of the file", _code(file, rest)))
    parts += [_shared(read(other), keys) for other, keys in shown.items()]
    parts.append("## Constructors" if len(file.constructors) > 1 else "## Constructor")
    module = path.replace("/", ".")
    parts += [f"::: lincoln_fn.{module}.{key}" for key in file.constructors]
    return "\n\n".join(parts) + "\n"


def markdown(docstring: Iterable[Paragraph], words: frozenset[str]) -> str:
    r"""Turn paragraphs of a docstring into Markdown, their formulas marked.

    Args:
        docstring: the paragraphs.
        words: those of several letters that may be part of a formula.

    Returns:
        Markdown. A block of formulas stands in `\[asciimath:` and `\]`, one a line, and a remark
        behind at least four spaces; `render_maths.py` typesets both.
    """
    parts = []
    for paragraph in docstring:
        if paragraph.is_formulas:
            parts.append("\n".join(["\\[asciimath:", *paragraph.lines, "\\]"]))
        else:
            text = with_formulas("\n".join(paragraph.lines), words)
            text = re.sub(r"^Derivation\.\s*", "## Derivation\n\n", text)
            parts.append(re.sub(r"(^|\s)(Cache|Source): ", r"\1**\2:** ", text))
    return "\n\n".join(parts)


def _picture(file: File) -> list[str]:
    """Draw a layer's Jacobian, or an activation's curve and its derivative's."""
    if not file.path.startswith("layers/"):
        return []
    is_activation = family(file.name) == "Activations" and file.name in file.constructors
    if file.name in jacobians.EXAMPLES or (not is_activation and jacobians.has_picture(file.name)):
        return [jacobians.picture(file.name)]
    drawn = curves.picture(file.name) if is_activation else ""
    return [drawn] if drawn else []


def _borrowed(file: File) -> list[str]:
    """Say which functions of the protocol are another layer's."""
    owners: dict[str, list[str]] = {}
    for key, (path, member) in file.imports.items():
        if key in (*PROTOCOL, "Params", "Cache") and member and "/common/" not in path:
            owners.setdefault(path, []).append(f"`{key}`")
    return [f"From {_link(read(path))}: {', '.join(keys)}." for path, keys in owners.items()]


def _code(file: File, keys: list[str]) -> str:
    code = "\n\n\n".join(file.definitions[key].code for key in keys)
    return f'```python title="{file.path}.py"\n{code}\n```'


def _folded(title: str, content: str) -> str:
    return f'??? note "{title}"\n\n{textwrap.indent(content, "    ")}'


def _shared(file: File, keys: list[str]) -> str:
    """Show what is used of a private file: open if the file derives something, else folded."""
    if any(paragraph.is_formulas for paragraph in file.docstring):
        rest = markdown(file.docstring[1:], file.names).replace("## Derivation\n\n", "")
        return "\n\n".join([f"### {file.path}.py", summary(file), rest, _code(file, keys)])
    return _folded(f"`{file.path}.py`: {summary(file)}", _code(file, keys))
