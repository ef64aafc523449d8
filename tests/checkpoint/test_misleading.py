"""Lies in files whose checksums agree: each is refused, or does not matter to what is loaded.

Each lie is told under the checksums of this version, and under that of 0.1.
"""

import copy
import hashlib
import json
import math
import tempfile
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import assert_says, same_bits
from helpers.checkpoints import PROBLEM, blank, refused
from safetensors import safe_open

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
