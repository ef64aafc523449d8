"""Twenty of the bugs as kernels: functions that take no float64, with a plain reference."""

from functools import wraps
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from helpers.functions import PAIRS
from helpers.functions.pair import Pair, function

SOURCES = {
    "Dao-AILab/quack#53", "BobMcDear/attorch#17", "state-spaces/mamba#547",
    "linkedin/Liger-Kernel#1298", "SeanNaren/warp-ctc#69", "HawkAaron/warp-transducer#23",
    "pytorch/ao#4139", "NX-AI/mlstm_kernels#16", "hao-ai-lab/FastVideo#925",
    "unslothai/unsloth#4533", "PaddlePaddle/Paddle#77274", "Dao-AILab/flash-attention#355",
    "ROCm/TransformerEngine#623", "linkedin/Liger-Kernel#272", "linkedin/Liger-Kernel#254",
    "linkedin/Liger-Kernel#1305", "flagos-ai/FlagGems#1082", "jmschrei/cherimoya#25",
    "flagos-ai/FlagGems#59", "fla-org/flash-linear-attention#1249",
}  # fmt: skip
KERNELS = [pair for pair in PAIRS if pair.source in SOURCES]


def kernel(pair: Pair, fixed: bool) -> Any:
    """Make the Function refuse float64, as kernels do."""
    made = pair.make(fixed)

    @wraps(made.forward)
    def forward(ctx, *inputs):
        if any(isinstance(x, Tensor) and x.dtype is torch.float64 for x in inputs):
            raise TypeError("a kernel of float32 and bfloat16")
        return made.forward(ctx, *inputs)

    return function(forward, made.backward)


def reference(pair: Pair) -> Any:
    """Give the forward of the repaired Function, for autograd to differentiate."""
    forward = pair.make(True).forward
    return lambda *inputs: forward(SimpleNamespace(save_for_backward=lambda *saved: None), *inputs)


def inputs_in(pair: Pair, dtype: torch.dtype) -> list[Any]:
    """Convert the floating inputs."""
    return [
        x.detach().to(dtype).requires_grad_(x.requires_grad)
        if isinstance(x, Tensor) and x.is_floating_point()
        else x
        for x in pair.fresh()
    ]
