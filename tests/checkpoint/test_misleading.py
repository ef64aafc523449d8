"""Lies in files whose checksums agree: each is refused, or does not matter to what is loaded.

Each lie is told under the checksums of this version, and under that of 0.1.
"""

import copy
import hashlib
import io
import json
import math
import os
import pickle
import tempfile
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import assert_says, normal, same_bits
from helpers.checkpoints import PROBLEM, blank, refused
from safetensors import safe_open
from safetensors.torch import save as to_bytes

import lincoln_fn as lf
from lincoln_fn import checkpoint
from lincoln_fn.checkpoint import CheckpointError, places
from lincoln_fn.checkpoint.file import score_of

TREE = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "bias": torch.tensor([1.0, -0.0, math.nan]),
    "flags": torch.tensor([True, False, True, True]),
    "count": torch.tensor(7),
    "empty": torch.zeros(0, 2),
    "kernel": torch.arange(24.0).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last),
    "half": torch.tensor([0.5, 2.0], dtype=torch.bfloat16),
    "nothing": None,
    "rate": 0.5,
    "pair": (torch.ones(1), ["text"]),
}
LIKE = blank(TREE)
BEGIN, END, SIZE = 120, 144, 152  # where the weight is, in so many bytes
TEXTS = {name: str(dtype).removeprefix("torch.") for name, dtype in places._DTYPES.items()}
pytestmark = pytest.mark.usefixtures("no_sync")


class File:
    """A checkpoint file taken apart, to be changed and put together again."""

    def __init__(self, data):
        length = 8 + int.from_bytes(data[:8], "little")
        self.header = json.loads(data[8:length])
        self.metadata = self.header.pop("__metadata__")
        self.notes = json.loads(self.metadata.pop("lincoln_fn"))
        self.data = bytearray(data[length:])
        self.in_notes = lambda text: text  # what is to become of the texts when they are written
        self.in_header = lambda text: text
        self.signed = {}  # what is to become of the checksums

    def sign(self, of_old):
        """Compute the checksums as the library does, by the offsets and shapes that are claimed."""
        texts, bytes_of = {}, {}
        for name, entry in self.header.items():
            try:
                texts[name] = f"{TEXTS[entry['dtype']]}{list(entry['shape'])}"
                begin, end = entry["data_offsets"]
                bytes_of[name] = bytes(self.data[begin:end])
            except (KeyError, TypeError, ValueError):
                texts[name], bytes_of[name] = repr(entry), b""
        covered = {k: v for k, v in self.notes.items() if k not in ("sha256", "head_sha256")}
        names = {name: f"{name!r} {texts[name]}".encode() for name in sorted(texts)}
        self.notes.pop("head_sha256", None)
        if not of_old:
            begun = json.dumps(covered, sort_keys=True).encode()
            covered["head_sha256"] = hashlib.sha256(begun + b"".join(names.values())).hexdigest()
            self.notes["head_sha256"] = covered["head_sha256"]
        begun = json.dumps(covered, sort_keys=True).encode()
        parts = [part for name in names for part in (names[name], bytes_of[name])]
        self.notes["sha256"] = hashlib.sha256(begun + b"".join(parts)).hexdigest()
        self.notes |= self.signed

    def to_bytes(self):
        notes = self.in_notes(json.dumps(self.notes))
        metadata = {**self.metadata, "lincoln_fn": notes} if notes is not None else self.metadata
        header = self.in_header(json.dumps({"__metadata__": metadata, **self.header}))
        header = header if isinstance(header, bytes) else header.encode("utf-8", "surrogatepass")
        return len(header).to_bytes(8, "little") + header + bytes(self.data)


def sharing(file):
    """Have two tensors share bytes, at the file's end, and nothing else amiss."""
    del file.data[-4:]
    file.header["flags"]["data_offsets"] = file.header["half"]["data_offsets"]


# What is told, of a file taken apart, and what is said of it; "right": it is loaded.
TOLD = r"""
weight.update(shape=[3, 2]) -> weight: expected float32[2, 3], got
weight.update(shape=[2**62, 2**62]) -> bytes of 'weight' by its shape
weight.update(shape=[-2, -3]) -> expected a shape of 'weight'
weight.update(shape=[1] * 65 + [2, 3]) -> expected a shape of 'weight'
weight.update(dtype='I32') -> weight: expected
weight.update(dtype='F16') -> bytes of 'weight' by its shape
weight.update(dtype='F8_E4M3') -> expected one of BOOL, ... for 'weight', got
weight.update(data_offsets=[0, 24]) -> its tensors overlap, or have a gap
weight.update(data_offsets=[2**62, 2**62 + 24]) -> its tensors overlap, or have a gap
weight.update(data_offsets=[str(BEGIN), str(END)]) -> expected two offsets of 'weight'
header.update(Weight=header.pop('weight')) -> missing weight
header.update({'\ud800': header.pop('weight')}) -> expected a name that safetensors can hold
header.update({'count.x': {**header['empty']}}) -> unexpected
weight.pop('shape') -> expected dtype, shape and data_offsets of 'weight'
strides.update(weight=[0, 0]) -> has the strides
strides.update(kernel=[24, 1, 6, 3]) -> has the strides
strides.update(weight=['3', '1']) -> has the strides
strides.update(nobody=[1]) -> has the strides
strides.update(weight=[1, 2]) -> right
strides.update(kernel=[12, 4, 2, 1]) -> right
strides.update(empty=[0, 2**62]) -> right
strides.clear() -> right
notes.update(version=1.0) -> expected version 1 of the format, got
notes.update(version=2) -> expected version 1 of the format, got
notes.update(rest=[]) -> its metadata is not complete
rest.update(rate='0.50') -> does not fit
rest.update(extra='0.5') -> does not fit
rest.pop('rate') -> does not fit
rest.update(weight='static 5') -> right
notes.update(more=[1, {'a': None}]) -> right
notes.update(score=math.nan) -> right
notes.update(score=10**400) -> right
in_notes(lambda t: t.replace('"score": null', '"score": 1e999')) -> checksum
signed.update(sha256='0' * 64) -> checksum
signed.update(head_sha256='é' * 64) -> checksum
in_header(lambda t: ' ' + t) -> cannot be read as safetensors
in_header(lambda t: t.encode('utf-16')) -> cannot be read as safetensors
in_header(lambda t: t.encode().replace(b'weight', b'w\xe9ight')) -> cannot be read as safetensors
in_header(lambda t: t.replace('"shape": [2, 3]', '"shape": [NaN, 3]')) -> cannot be read as safeten
in_header(lambda t: t[:-1] + t[t.index(', "weight"') :]) -> cannot be read as safetensors
in_header(lambda t: t[:-1] + ', "__metadata__": {}}') -> cannot be read as safetensors
in_notes(lambda t: '{"version": 2, ' + t[1:]) -> its metadata cannot be read
in_header(lambda t: json.dumps(json.loads(t), indent=2) + '\n') -> right
in_header(lambda t: t.replace('"weight"', '"\\u0077eight"')) -> right
in_notes(lambda t: None) -> it has no lincoln_fn in its metadata
metadata.update(format='pt') -> right
metadata.update(more=1) -> its metadata is not text by name
in_header(lambda t: t.replace('_": {', '_": null, "x": {', 1)) -> its metadata is not text
sharing(file) -> its tensors overlap
data.__setitem__(header['flags']['data_offsets'][0] + 3, 255) -> flags has a bool that is neither
data.extend(b'\0') -> expected ... bytes
data.__delitem__(slice(-4096, None)) -> bytes
"""
IN_PLACE = (  # in place of the header, or of the notes
    *("''", "'null'", "f'[{t}]'", "t[:-1]", r"'\ufeff' + t", "'[' * 100_000"),
    """t[:-1] + ', "x": ' + '9' * 5000 + '}'""",
)
LIES = [tuple(row.split(" -> ")) for row in TOLD.strip().splitlines()]
LIES += [
    (f"in_{part}(lambda t: {text})", said)
    for part, said in (("header", "cannot be read as safetensors"), ("notes", "cannot be read"))
    for text in IN_PLACE
]


def tell(lie, file):
    """Change what is taken apart."""
    names = {**vars(file), **file.notes, "file": file, "weight": file.header["weight"]}
    changes = {name: partial(setattr, file, name) for name in ("in_header", "in_notes")}
    eval(lie, {**globals(), **names, **changes})


def saved(score):
    with tempfile.NamedTemporaryFile() as file:
        checkpoint.save(file.name, TREE, score=score)
        return Path(file.name).read_bytes()


DATA, SCORED = saved(None), saved(0.5)
signed_as = pytest.mark.parametrize(
    "of_old", [False, True], ids=["signed as now", "signed as by 0.1"]
)


@signed_as
def test_a_file_without_a_lie_is_signed_as_the_library_does(of_old, tmp_path):
    file = tmp_path / "file.safetensors"
    told = File(DATA)
    assert told.header["weight"]["data_offsets"] == [BEGIN, END]
    assert len(told.data) == SIZE
    given = dict(told.notes)
    told.sign(of_old)
    assert of_old or told.notes == given
    file.write_bytes(told.to_bytes())
    assert same_bits(checkpoint.load(file, LIKE), TREE)
    with safe_open(file, "pt") as opened:
        assert sorted(opened.keys()) == sorted(told.header)


@signed_as
@pytest.mark.parametrize(("lie", "said"), LIES)
def test_a_lie_is_refused_or_does_not_matter(lie, said, of_old, tmp_path):
    lying = File(DATA)
    tell(lie, lying)
    lying.sign(of_old)
    directory = checkpoint.Directory(tmp_path, keep_last=1)
    file = tmp_path / "step_000000007.safetensors"
    file.write_bytes(lying.to_bytes())
    (tmp_path / "step_000000001.safetensors").write_bytes(SCORED)
    if said == "right":
        assert same_bits(checkpoint.load(file, LIKE), TREE)
        assert score_of(file) is None
    else:
        assert_says(f"CheckpointError: {said}", checkpoint.load, file, LIKE)
        assert PROBLEM.fullmatch(refused(checkpoint.load, file, LIKE).problem)
        with pytest.warns(UserWarning, match="passed over a checkpoint"):
            assert same_bits(directory.latest(LIKE), TREE)
    assert same_bits(directory.best(LIKE), TREE)
    directory.save(lf.TrainState((), (), lf.Key(0), torch.tensor(9)))
    assert (tmp_path / "step_000000001.safetensors").exists()  # which has the best score


ANYTHING = [
    None, True, 0, 1, -1, 2.0, 2**62, 2**70, 10**400, math.nan, "", "1", "F16", "static 5", [], [1],
    [0, 0], [1, 2], [3, 2], [-2, -3], ["2", 3], [True, 6], [2**62, 2**62], [0, 24], [[2, 3]], {},
    {"0": 2}, [3, 1, 1], [12, 4, 2, 1], [1] * 70, "\ud800", "None",
]  # fmt: skip


def entries(node):
    """List each object and list within a document, with each key of it."""
    for key in node if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from entries(node[key])


@pytest.mark.full(but=("[weight",))
@pytest.mark.parametrize("of", ["weight", "flags", "count", "empty", "kernel", "notes"])
def test_anything_in_place_of_anything_is_refused_or_does_not_matter(of, tmp_path):
    file, problems = tmp_path / "file", []

    def document():
        told = File(DATA)
        return told, told.notes if of == "notes" else {of: told.header[of]}

    for i in range(len([*entries(document()[1])])):
        for value in ANYTHING:
            told, root = document()
            owner, key = [*entries(root)][i]
            owner[key] = copy.deepcopy(value)
            if of != "notes":
                told.header |= root
            told.sign(False)
            file.write_bytes(told.to_bytes())
            try:
                assert same_bits(checkpoint.load(file, LIKE), TREE)
                score_of(file)
            except CheckpointError as error:
                problems.append(error.problem)
    assert len(problems) > 50
    assert all(map(PROBLEM.fullmatch, problems))


# Damaged files: each gives one clear error, and a directory passes over each.


NET = lf.serial(lf.dense(7), lf.batch_norm(), lf.dropout(0.5), lf.dense(4))
STATE = lf.init_state(NET, lf.optim.adam(0.01), lf.Key(0), normal(6, 5))


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
