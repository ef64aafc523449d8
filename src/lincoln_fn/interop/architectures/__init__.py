"""The families of pretrained models, a file each, by the `model_type` of their config."""

from typing import Final

from lincoln_fn.interop.architectures.bert import BERT
from lincoln_fn.interop.architectures.clip import CLIP, CLIP_TEXT, CLIP_VISION
from lincoln_fn.interop.architectures.family import Family
from lincoln_fn.interop.architectures.gemma2 import GEMMA2
from lincoln_fn.interop.architectures.gpt2 import GPT2
from lincoln_fn.interop.architectures.llama import LLAMA, MISTRAL, PHI3, QWEN2, QWEN3
from lincoln_fn.interop.architectures.mamba import MAMBA
from lincoln_fn.interop.architectures.mixtral import MIXTRAL
from lincoln_fn.interop.architectures.t5 import T5
from lincoln_fn.interop.architectures.vit import VIT

FAMILIES: Final[dict[str, Family]] = {
    "bert": BERT,
    "clip": CLIP,
    "clip_text_model": CLIP_TEXT,
    "clip_vision_model": CLIP_VISION,
    "gemma2": GEMMA2,
    "gpt2": GPT2,
    "llama": LLAMA,
    "mamba": MAMBA,
    "mistral": MISTRAL,
    "mixtral": MIXTRAL,
    "phi3": PHI3,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "t5": T5,
    "vit": VIT,
}
