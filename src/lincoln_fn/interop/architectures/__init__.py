"""The families of pretrained models, a file each, by the `model_type` of their config."""

import pkgutil
from importlib import import_module
from typing import Final

from lincoln_fn.interop.architectures.family import Family

FAMILIES: Final[dict[str, Family]] = {
    kind: family
    for file in pkgutil.iter_modules(__path__)
    for kind, family in getattr(import_module(f"{__name__}.{file.name}"), "FAMILIES", {}).items()
}
