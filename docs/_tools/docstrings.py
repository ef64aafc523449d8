"""What Griffe, which reads the source for the reference, has to be told of this library."""

import re
from typing import Any

import griffe

RECORDS = {"attrs.frozen", "attrs.define", "lincoln_fn.record.record"}
NOT_A_DEFAULT = ("static(", "attrs.field(")
DERIVED = re.compile(r"lincoln_fn\.layers\.[a-z]\w*")


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

        The docstring of a layer's module is left out: its page derives the same in formulas.

        Args:
            obj: any object of the source.
        """
        if obj.docstring is None:
            return
        if obj.is_module and DERIVED.fullmatch(obj.path):
            obj.docstring = None
        else:
            obj.docstring.value = re.sub(
                r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE
            )

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Show a default that has a private name by its value.

        Args:
            func: any function.
        """
        for parameter in func.parameters:
            members = func.module.members
            name = str(parameter.default)
            if name.startswith("_") and name in members:
                parameter.default = members[name].value  # type: ignore[union-attr]

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Add the constructor that attrs writes: Griffe knows dataclasses, and not yet attrs.

        Args:
            cls: a class whose members are known.
        """
        if "__init__" in cls.members or not RECORDS & {d.callable_path for d in cls.decorators}:
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
