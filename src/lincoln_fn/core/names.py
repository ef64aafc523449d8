"""The public names of a package: those that its `__init__` imports, `from ... import a as a`."""

from __future__ import annotations

from types import ModuleType


def export_all(package: dict[str, object]) -> None:
    """Set the `__all__` of a package, given its globals: all names but modules and private ones.

    Example:
        >>> package = {"mse": print, "_sum": print, "torch": torch}
        >>> export_all(package)
        >>> package["__all__"]
        ['mse']
    """
    package["__all__"] = sorted(
        name
        for name, value in package.items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    )
