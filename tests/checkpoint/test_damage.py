"""Damaged files: each gives one clear error, and a directory passes over each."""

import io
import json
import os
import pickle
from functools import partial

import pytest
import torch
from helpers import normal, same_bits
from helpers.checkpoints import PROBLEM, refused
from safetensors import safe_open
from safetensors.torch import save as to_bytes

import lincoln_fn as lf
from lincoln_fn import checkpoint

NET = lf.serial(lf.dense(7), lf.batch_norm(), lf.dropout(0.5), lf.dense(4))
STATE = lf.init_state(NET, lf.optim.adam(0.01), lf.Key(0), normal(6, 5))
pytestmark = pytest.mark.usefixtures("no_sync")


def good_bytes(folder):
    file = folder / "good.safetensors"
    checkpoint.save(file, STATE)
    return file.read_bytes()


def taken_apart(data, folder):
    file = folder / "apart.safetensors"
    file.write_bytes(data)
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
        return tensors, json.loads(opened.metadata()["lincoln_fn"])


def truncated(part, data, folder):
    return data[: int(len(data) * part)]


def flipped(place, bit, data, folder):
    """Flip a bit; place counts from 0 to 1 through a part: the length, the header, the numbers."""
    part, share = place
    header = 8 + int.from_bytes(data[:8], "little")
    first, last = {"length": (0, 8), "header": (8, header), "numbers": (header, len(data))}[part]
    position = first + int((last - first) * share)
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


def rewritten(change, data, folder):
    """Write the file anew with other tensors or notes, in good order as safetensors."""
    tensors, notes = taken_apart(data, folder)
    change(tensors, notes)
    return to_bytes(tensors, {"lincoln_fn": json.dumps(notes)})


class Harmful:
    """What unpickling would run."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / "harmed"),)


def pickled(protocol, data, folder):
    return pickle.dumps(Harmful(folder), protocol)


def torch_saved(in_a_zip, data, folder):
    buffer = io.BytesIO()
    torch.save(Harmful(folder), buffer, _use_new_zipfile_serialization=in_a_zip)
    return buffer.getvalue()


def pickle_within(data, folder):
    """Put a pickle where the notes should be."""
    tensors, _ = taken_apart(data, folder)
    return to_bytes(tensors, {"lincoln_fn": pickle.dumps(Harmful(folder), 0).decode()})


WEIGHT, BIAS, MEAN = "params.0.weight", "params.0.bias", "params.1.running.mean"
CHANGES = {
    "without a statistic": lambda t, n: t.pop(MEAN),
    "with a tensor": lambda t, n: t.update({"params.9.weight": torch.ones(2)}),
    "with another name": lambda t, n: t.update({"params.0.wait": t.pop(WEIGHT)}),
    "transposed": lambda t, n: t.update({WEIGHT: t[WEIGHT].T.contiguous()}),
    "in float64": lambda t, n: t.update({BIAS: t[BIAS].double()}),
    "with -0.0 for 0.0": lambda t, n: t.update({BIAS: -t[BIAS]}),
    "without version": lambda t, n: n.pop("version"),
    "with strides": lambda t, n: n["strides"].update({WEIGHT: [1, 5]}),
    "with a score": lambda t, n: n.update(score=1.0),
}
DAMAGES = {
    **{f"the first {i}%": partial(truncated, i / 100) for i in range(0, 100, 4)},
    "all but the last byte": lambda data, folder: data[:-1],
    **{f"bit {i} of the length": partial(flipped, ("length", i / 8), i) for i in range(8)},
    **{f"bit {i} of the header": partial(flipped, ("header", i / 60), i % 8) for i in range(60)},
    **{f"bit {i} of the numbers": partial(flipped, ("numbers", i / 40), i % 8) for i in range(40)},
    **{f"rewritten {name}": partial(rewritten, change) for name, change in CHANGES.items()},
    **{f"a pickle of protocol {i}": partial(pickled, i) for i in (0, 2, 5)},
    "a pickle by torch.save": partial(torch_saved, True),
    "an old pickle by torch.save": partial(torch_saved, False),
    "a pickle in the notes": pickle_within,
    "a letter for its first byte": lambda data, folder: b"{" + data[1:],
    "twice": lambda data, folder: data + data,
    "zeros": lambda data, folder: bytes(len(data)),
    "zeros in its last half": lambda data, folder: data[: len(data) // 2].ljust(len(data), b"\0"),
    "text": lambda data, folder: b"step 100  loss 0.5\n" * 40,
    "of another library": lambda data, folder: to_bytes({"weight": torch.ones(2)}),
    "of another library, with notes": lambda data, folder: to_bytes({}, {"format": "pt"}),
    "of notes that are no JSON": lambda data, folder: to_bytes({}, {"lincoln_fn": "{"}),
    "of a JSON alone": lambda data, folder: data[8 : 8 + int.from_bytes(data[:8], "little")],
    "a header of 10^18 bytes": lambda data, folder: (10**18).to_bytes(8, "little") + data[8:],
    "its numbers alone": lambda data, folder: data[8 + int.from_bytes(data[:8], "little") :],
}


# What is said of a file with other tensors than its own.
OTHERS = {
    "rewritten without a statistic": f"missing {MEAN} float32[7]",
    "rewritten with a tensor": "unexpected params.9.weight float32[2]",
    "rewritten with another name":
        f"missing {WEIGHT} float32[5, 7]\n  unexpected params.0.wait float32[5, 7]",
    "rewritten transposed": f"{WEIGHT}: expected float32[5, 7], got float32[7, 5]",
    "rewritten in float64": f"{BIAS}: expected float32[7], got float64[7]",
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_gives_one_clear_error_and_is_passed_over(name, tmp_path):
    directory = checkpoint.Directory(tmp_path / "run")
    directory.save(STATE)
    damaged = tmp_path / "run" / "step_000000007.safetensors"
    damaged.write_bytes(DAMAGES[name](good_bytes(tmp_path), tmp_path))
    refusal = refused(checkpoint.load, damaged, STATE)
    assert refusal.path == damaged
    assert PROBLEM.fullmatch(refusal.problem)
    if name in OTHERS:
        problem = "is damaged: what it holds does not agree with its checksum"
        assert refusal.problem == f"{problem}\n  {OTHERS[name]}"
    with pytest.warns(UserWarning, match="passed over a checkpoint") as warned:
        state = directory.latest(STATE)
    assert [str(w.message) for w in warned] == [f"passed over a checkpoint: {refusal}"]
    assert same_bits(state, STATE)
    assert not (tmp_path / "harmed").exists()


def test_unpickling_would_harm(tmp_path):
    pickle.loads(pickled(2, b"", tmp_path))
    assert (tmp_path / "harmed").is_dir()
