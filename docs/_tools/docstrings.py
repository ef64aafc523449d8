"""What Griffe, which reads the source for the reference, has to be told of this library."""

import ast
import re
import sys
from copy import copy
from pathlib import Path
from typing import Any

import griffe

sys.path.append(str(Path(__file__).parent))

from prose import with_formulas
from sections import completed, facts_of, functions
from source_files import MADE, defined, made_of, read

RECORDS = {"attrs.frozen", "attrs.define", "NamedTuple"}
RECORDS |= {"lincoln_fn.core.record", "lincoln_fn.core.record.record"}  # of the face, and its file
NOT_A_DEFAULT = ("static(", "attrs.field(")
CODE = re.compile(r"^((?: {4}.*\n)+)", flags=re.MULTILINE)
# Griffe takes what stands before a colon on the first line for the type.
RETURNED = re.compile(r"^((?:Returns|Yields):\n {4}[^\s:]+) (?=.*:)", flags=re.MULTILINE)
SECTION = re.compile(r"^(?=[A-Z]\w+:$)", flags=re.MULTILINE)


def _default(field: griffe.Attribute) -> Any:  # Any: None, or an expression of Griffe's
    """Give a field's default, or dots where it is made of the other fields."""
    value = str(field.value)
    if field.value is None or value.startswith(NOT_A_DEFAULT):
        return None
    return "..." if value.startswith("attrs.Factory(") else field.value


class Docstrings(griffe.Extension):
    """Shows fields of records, examples and defaults as a reader expects them."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:  # Any: Griffe's own objects
        """Make `Example:` the section that Griffe calls `Examples:`.

        Args:
            obj: any object of the source.
        """
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE
            )

    def on_module_members(self, *, node: ast.Module, mod: griffe.Module, **_: Any) -> None:
        """Add the functions in `conv1d, conv2d, conv3d = over_axes(_conv_nd)`.

        Args:
            node: the module's code.
            mod: the module.
        """
        for statement in node.body:
            if not (family := made_of(statement)):
                continue
            whole = mod.members[family]
            names = [name for name in defined(statement) if name != "_"]
            for name in names:
                function = griffe.Function(
                    name,
                    parameters=griffe.Parameters(*list(whole.parameters)[1:]),
                    returns=whole.returns,
                    lineno=statement.lineno,
                    endlineno=statement.end_lineno,
                )
                function.docstring = copy(whole.docstring)
                function.docstring.parent = function
                if name != names[0]:
                    function.docstring.value = f"As `{names[0]}`."
                mod.set_member(name, function)

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Add what the signature says, show private defaults by their values, typeset formulas.

        Args:
            func: any function.
        """
        _, *path = func.module.path.split(".")
        file = Path(str(func.filepath))
        node = functions(file).get(func.path.removeprefix(f"{func.module.path}."))
        if func.docstring is not None and node is not None:
            says = completed(func.docstring.value, facts_of(node, file))
            func.docstring.value = RETURNED.sub(r"\1\n    ", says)
        if len(path) == 2 and path[0] in MADE and func.docstring is not None:
            says, *sections = SECTION.split(func.docstring.value)
            words = read("/".join(path)).names | {parameter.name for parameter in func.parameters}
            parts = [
                part if part.startswith("    ") else with_formulas(part, words)
                for part in CODE.split(says)
            ]
            func.docstring.value = "".join([*parts, *sections])
        for parameter in func.parameters:
            members = func.module.members
            name = str(parameter.default)
            if name.startswith("_") and name in members:
                parameter.default = getattr(members[name], "value", parameter.default)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Add the constructor that attrs or NamedTuple writes: Griffe knows that of dataclasses.

        Args:
            cls: a class whose members are known.
        """
        made_by = {d.callable_path for d in cls.decorators} | {str(base) for base in cls.bases}
        if "__init__" in cls.members or not RECORDS & made_by:
            return
        fields = [a for a in cls.attributes.values() if a.annotation and "property" not in a.labels]
        parameters = [
            griffe.Parameter(
                field.name,
                annotation=field.annotation,
                kind=griffe.ParameterKind.positional_or_keyword,
                default=_default(field),
            )
            for field in fields
        ]
        itself = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
        init = griffe.Function("__init__", parameters=griffe.Parameters(itself, *parameters))
        cls.set_member("__init__", init)
