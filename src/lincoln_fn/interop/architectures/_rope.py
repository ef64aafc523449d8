"""Rotary positions of a config: their options, in all of the forms that files have."""

from __future__ import annotations

from inspect import signature
from typing import Final

from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures.family import Config, Options
from lincoln_fn.layers.common import rope_scaling
from lincoln_fn.layers.common.constructors import ours
from lincoln_fn.layers.common.rope_scaling import RopeScaling

TYPES: Final = ("default", "linear", "dynamic", "yarn", "llama3", "longrope")
_OPTIONAL: Final = {
    "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
}  # fmt: skip


def flattened(config: Config) -> Config:
    """Put all options of rotary positions into `rope_parameters`, and their type beside them.

    Layers with a window may have positions of their own: then these are `local_rope_parameters`.
    """
    own = config.get("rope_parameters") or {}
    if "full_attention" not in own:
        return _of_one(config)
    local = _of_one({**config, "rope_parameters": own.get("sliding_attention")})
    return {
        **_of_one({**config, "rope_parameters": own["full_attention"]}),
        "local_rope_parameters": local["rope_parameters"], "local_rope_type": local["rope_type"],
    }  # fmt: skip


def _of_one(config: Config) -> Config:
    flat = dict(config)
    rope = {**(flat.pop("rope_parameters", None) or {}), **(flat.pop("rope_scaling", None) or {})}
    old = rope.pop("type", "default")
    kind = rope.pop("rope_type", old)
    for name in ("rope_theta", "partial_rotary_factor"):
        outside = flat.pop(name, None)
        if outside is not None:
            rope.setdefault(name, outside)
    # This one has priority where it is outside.
    longest = "max_position_embeddings"
    original = f"original_{longest}"
    rope[original] = flat.pop(original, None) or rope.get(original) or flat.get(longest)
    kind = "longrope" if kind == "su" else kind  # its first name
    return {**flat, "rope_parameters": rope, "rope_type": kind}


def rotary(
    options: Options, head_dim: int, *, interleaved: bool = False, is_local: bool = False
) -> Layer:
    """Make the positions of a block, those of layers with a window if they are local."""
    rope, kind = options.rope_parameters, options.rope_type
    theta = rope.get("rope_theta") or options.rope_theta
    if is_local:
        rope, kind = options.local_rope_parameters, options.local_rope_type
        theta = rope.get("rope_theta") or options.rope_local_base_freq or theta
    part = rope.get("partial_rotary_factor") or options.partial_rotary_factor
    return ours.rotary_embedding(
        theta,
        rotary_dim=None if part == 1 else int(head_dim * part),
        interleaved=interleaved,
        scaling=_scaling(options, rope, kind),
    )


def _scaling(options: Options, rope: Config, kind: str) -> RopeScaling | None:
    """Make the scaling of a config's type, whose arguments are options of the same names."""
    if kind == "default":
        return None
    longest = options.max_position_embeddings
    original = rope.get("original_max_position_embeddings") or longest
    given = {
        **rope, "max_position_embeddings": longest, "original_max_position_embeddings": original,
    }  # fmt: skip
    if kind in ("yarn", "longrope"):
        given["factor"] = given.get("factor") or longest / original
    make = getattr(rope_scaling, kind)
    wanted = [name for name in signature(make).parameters
              if name not in _OPTIONAL or given.get(name) is not None]  # fmt: skip
    if missing := [name for name in wanted if given.get(name) is None]:
        raise ValueError(f"rope_parameters: {missing[0]} is missing")
    made: RopeScaling = make(**{
        name: tuple(given[name]) if isinstance(given[name], list) else given[name]
        for name in wanted
    })  # fmt: skip
    return made
