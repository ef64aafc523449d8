"""Lies in files whose checksums agree: each is refused, or does not matter to what is loaded.

Each lie is told under the checksums of this version, and under that of 0.1.
"""

import copy
import hashlib
import json
import math
import os

import pytest
import torch
from helpers.checkpoints import PROBLEM, blank
from helpers.compare import same_bits
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
RIGHT = None  # for a file that is to be loaded, in place of the words of its error


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


def told(of="weight", **fields):
    """Claim something of a tensor."""
    return lambda file: file.header[of].update(fields)


def named(name):
    return lambda file: file.header.update({name: file.header.pop("weight")})


def noted(**fields):
    return lambda file: file.notes.update(fields)


def with_strides(of, stride):
    return lambda file: file.notes["strides"].update({of: stride})


def with_rest(path, text):
    return lambda file: file.notes["rest"].update({path: text})


def with_text(where, change):
    return lambda file: setattr(file, where, change)


def signed(**fields):
    return lambda file: setattr(file, "signed", fields)


def with_byte(of, place, value):
    """Put a byte into a tensor."""

    def change(file):
        file.data[file.header[of]["data_offsets"][0] + place] = value

    return change


def sharing(file):
    """Have two tensors share bytes, at the file's end, and nothing else amiss."""
    del file.data[-4:]
    file.header["flags"]["data_offsets"] = file.header["half"]["data_offsets"]


SHAPE, BYTES, OFFSETS, FIELDS = (
    "expected a shape of 'weight'", "bytes of 'weight' by its shape",
    "expected two offsets of 'weight'", "expected dtype, shape and data_offsets of 'weight'",
)  # fmt: skip
DTYPE, PLACES = "expected one of BOOL, .* for 'weight', got", "its tensors overlap, or have a gap"
STRIDES, VERSION = "has the strides", "expected version 1 of the format, got"
INCOMPLETE, FIT = "its metadata is not complete", "does not fit"
NO_NOTES, NO_TENSORS = "its metadata cannot be read", "cannot be read as safetensors"
# By lie: how it is told, and what is said of it.
LIES = {
    "another shape": (told(shape=[3, 2]), r"weight: expected float32\[2, 3\], got"),
    "a shape of 2^124 numbers": (told(shape=[2**62, 2**62]), BYTES),
    "a negative shape": (told(shape=[-2, -3]), SHAPE),
    "a shape of 67 axes": (told(shape=[1] * 65 + [2, 3]), SHAPE),
    "another dtype of that size": (told(dtype="I32"), "weight: expected"),
    "a dtype of another size": (told(dtype="F16"), BYTES),
    "a dtype that there is not": (told(dtype="F8_E4M3"), DTYPE),
    "an overlap": (told(data_offsets=[0, 24]), PLACES),
    "a gap": (told(data_offsets=[2**62, 2**62 + 24]), f"{PLACES}|expected [0-9]+ bytes, got"),
    "offsets of text": (told(data_offsets=[str(BEGIN), str(END)]), OFFSETS),
    "another name": (named("Weight"), "missing weight"),
    "half of a letter": (named("\ud800"), "expected a name that safetensors can hold"),
    "a name below a tensor": (
        lambda file: file.header.update({"count.x": {**file.header["empty"]}}), "unexpected",
    ),
    "no shape": (lambda file: file.header["weight"].pop("shape"), FIELDS),
    "strides that overlap": (with_strides("weight", [0, 0]), STRIDES),
    "strides with gaps": (with_strides("kernel", [24, 1, 6, 3]), STRIDES),
    "strides of text": (with_strides("weight", ["3", "1"]), STRIDES),
    "strides of nobody": (with_strides("nobody", [1]), STRIDES),
    "other strides of a matrix": (with_strides("weight", [1, 2]), RIGHT),
    "plain strides of a kernel": (with_strides("kernel", [12, 4, 2, 1]), RIGHT),
    "strides of an empty tensor": (with_strides("empty", [0, 2**62]), RIGHT),
    "no strides of a kernel": (lambda file: file.notes["strides"].clear(), RIGHT),
    "version 1.0": (noted(version=1.0), VERSION),
    "version 2": (noted(version=2), VERSION),
    "a rest that is a list": (noted(rest=[]), INCOMPLETE),
    "another text of a number": (with_rest("rate", "0.50"), FIT),
    "one text more": (with_rest("extra", "0.5"), FIT),
    "a text less": (lambda file: file.notes["rest"].pop("rate"), FIT),
    "a text of a tensor": (with_rest("weight", "static 5"), RIGHT),
    "more notes": (noted(more=[1, {"a": None}]), RIGHT),
    "a score of nan": (noted(score=math.nan), RIGHT),
    "a score of 10^400": (noted(score=10**400), RIGHT),
    "a score changed after it was signed": (
        with_text("in_notes", lambda text: text.replace('"score": null', '"score": 1e999')),
        "checksum",
    ),
    "another checksum": (signed(sha256="0" * 64), "checksum"),
    "another checksum of the head": (signed(head_sha256="é" * 64), "checksum"),
    "a space before the header": (with_text("in_header", lambda t: " " + t), NO_TENSORS),
    "UTF-16": (with_text("in_header", lambda t: t.encode("utf-16")), NO_TENSORS),
    "Latin-1": (
        with_text("in_header", lambda t: t.encode().replace(b"weight", b"w\xe9ight")), NO_TENSORS,
    ),
    "nan in a shape": (
        with_text("in_header", lambda t: t.replace('"shape": [2, 3]', '"shape": [NaN, 3]')),
        NO_TENSORS,
    ),
    "a tensor twice": (
        with_text("in_header", lambda t: t[:-1] + t[t.index(', "weight"') :]), NO_TENSORS,
    ),
    "metadata twice": (
        with_text("in_header", lambda t: t[:-1] + ', "__metadata__": {}}'), NO_TENSORS,
    ),
    "the version twice": (with_text("in_notes", lambda t: '{"version": 2, ' + t[1:]), NO_NOTES),
    **{
        f"{where}: {name}": (with_text(where, change), words)
        for where, words in (("in_header", NO_TENSORS), ("in_notes", NO_NOTES))
        for name, change in {
            "nothing": lambda t: "", "null": lambda t: "null", "a list": lambda t: f"[{t}]",
            "cut off": lambda t: t[:-1], "a mark before": lambda t: "\ufeff" + t,
            "without end": lambda t: "[" * 100_000,
            "a long number": lambda t: t[:-1] + ', "x": ' + "9" * 5000 + "}",
        }.items()
    },
    "lines": (with_text("in_header", lambda t: json.dumps(json.loads(t), indent=2) + "\n"), RIGHT),
    "escapes": (with_text("in_header", lambda t: t.replace('"weight"', '"\\u0077eight"')), RIGHT),
    "no notes": (with_text("in_notes", lambda t: None), "it has no lincoln_fn in its metadata"),
    "more metadata": (lambda file: file.metadata.update(format="pt"), RIGHT),
    "metadata with a number": (
        lambda file: file.metadata.update(more=1), "its metadata is not text by name",
    ),
    "metadata of null": (
        with_text("in_header", lambda t: t.replace('_": {', '_": null, "x": {', 1)),
        "its metadata is not text",
    ),
    "two tensors in one place": (sharing, "its tensors overlap"),
    "a bool of 255": (with_byte("flags", 3, 255), "flags has a bool that is neither"),
    "a byte more": (lambda file: file.data.extend(b"\0"), "expected .* bytes"),
    "4096 bytes less": (lambda file: file.data.__delitem__(slice(-4096, None)), "bytes"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_sync(monkeypatch):
    """Save without waiting for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def saved(tmp_path_factory, score):
    file = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    checkpoint.save(file, TREE, score=score)
    return file.read_bytes()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return saved(tmp_path_factory, None)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    return saved(tmp_path_factory, 0.5)


@pytest.mark.parametrize("of_old", [False, True], ids=["signed as now", "signed as by 0.1"])
def test_a_file_without_a_lie_is_signed_as_the_library_does(of_old, data, tmp_path):
    file = tmp_path / "file.safetensors"
    told = File(data)
    assert told.header["weight"]["data_offsets"] == [BEGIN, END]
    assert len(told.data) == SIZE
    given = dict(told.notes)
    told.sign(of_old)
    assert of_old or told.notes == given
    file.write_bytes(told.to_bytes())
    assert same_bits(checkpoint.load(file, LIKE), TREE)
    with safe_open(file, "pt") as opened:
        assert sorted(opened.keys()) == sorted(told.header)


@pytest.mark.parametrize("of_old", [False, True], ids=["signed as now", "signed as by 0.1"])
@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused_or_does_not_matter(name, of_old, data, scored, tmp_path):
    change, words = LIES[name]
    lying = File(data)
    change(lying)
    lying.sign(of_old)
    directory = checkpoint.Directory(tmp_path, keep_last=1)
    file = tmp_path / "step_000000007.safetensors"
    file.write_bytes(lying.to_bytes())
    (tmp_path / "step_000000001.safetensors").write_bytes(scored)
    if words is RIGHT:
        assert same_bits(checkpoint.load(file, LIKE), TREE)
        assert score_of(file) is None
    else:
        with pytest.raises(CheckpointError, match=words) as caught:
            checkpoint.load(file, LIKE)
        assert PROBLEM.fullmatch(caught.value.problem)
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
def test_anything_in_place_of_anything_is_refused_or_does_not_matter(of, data, tmp_path):
    file, refused = tmp_path / "file", []

    def document():
        told = File(data)
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
                refused.append(error.problem)
    assert len(refused) > 50
    assert all(map(PROBLEM.fullmatch, refused))
