"""Rotary positions from the options of a config, which have had several forms."""

from __future__ import annotations

from typing import Any, Final

from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures.family import Config, Options
from lincoln_fn.layers.common import rope_scaling
from lincoln_fn.layers.common.rope_scaling import RopeScaling
from lincoln_fn.layers.rotary_embedding import rotary_embedding

ROPE_TYPES: Final = ("default", "linear", "dynamic", "yarn", "llama3", "longrope")
_YARN: Final = ("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate")


def with_rope(config: Config) -> dict[str, Any]:  # Any: as in `Config`
    """Put all options of rotary positions into `rope_parameters`, and their type beside them."""
    flat = dict(config)
    rope = {**(flat.pop("rope_parameters", None) or {}), **(flat.pop("rope_scaling", None) or {})}
    old = rope.pop("type", "default")
    kind = rope.pop("rope_type", old)
    for name in ("rope_theta", "partial_rotary_factor"):
        outside = flat.pop(name, None)
        if outside is not None:
            rope.setdefault(name, outside)
    # This one has priority where it is outside.
    rope["original_max_position_embeddings"] = (
        flat.pop("original_max_position_embeddings", None)
        or rope.get("original_max_position_embeddings")
        or flat.get("max_position_embeddings")
    )
    kind = "longrope" if kind == "su" else kind  # its first name
    return {**flat, "rope_parameters": rope, "rope_type": kind}


def rotary(options: Options, head_dim: int) -> Layer:
    """Make the rotary positions of a config."""
    rope = options.rope_parameters
    part = rope.get("partial_rotary_factor") or 1.0
    return rotary_embedding(
        rope.get("rope_theta") or 10000.0,
        rotary_dim=None if part == 1 else int(head_dim * part),
        scaling=_scaling(options),
    )


def _scaling(options: Options) -> RopeScaling | None:
    rope, kind = options.rope_parameters, options.rope_type
    longest = options.max_position_embeddings
    original = rope.get("original_max_position_embeddings") or longest
    if kind == "linear":
        return rope_scaling.linear(_required(rope, "factor"))
    if kind == "dynamic":
        return rope_scaling.dynamic(_required(rope, "factor"), longest)
    if kind == "llama3":
        ends = {name: _required(rope, name) for name in ("low_freq_factor", "high_freq_factor")}
        return rope_scaling.llama3(_required(rope, "factor"), original, **ends)
    factor, own = rope.get("factor") or longest / original, rope.get("attention_factor")
    if kind == "yarn":
        given = {name: rope[name] for name in _YARN if rope.get(name) is not None}
        return rope_scaling.yarn(factor, original, attention_factor=own, **given)
    if kind == "longrope":
        short, long = (tuple(_required(rope, f"{name}_factor")) for name in ("short", "long"))
        return rope_scaling.longrope(short, long, factor, original, attention_factor=own)
    return None


def _required(rope: Config, name: str) -> Any:  # Any: as in `Config`
    if rope.get(name) is None:
        raise ValueError(f"rope_parameters: {name} is missing")
    return rope[name]
