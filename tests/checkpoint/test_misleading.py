"""Lies in files whose checksums agree, of each kind some: each is refused, or loaded rightly.

Each lie is told under the checksums of this version, and every eighth also under that of 0.1.
"""

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
from lincoln_fn.checkpoint import CheckpointError
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
TEXTS = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "BF16": "bfloat16",
    "F16": "float16", "I32": "int32", "F32": "float32", "I64": "int64", "F64": "float64",
}  # fmt: skip
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
        self.signed = lambda notes: None  # what is to become of the checksums

    def sign(self, of_old):
        """Compute the checksums as the library does, by the offsets and shapes that are claimed."""
        texts, bytes_of = {}, {}
        for name, entry in self.header.items():
            try:
                texts[name] = f"{TEXTS[entry['dtype']]}{list(entry['shape'])}"
                begin, end = entry["data_offsets"]
                bytes_of[name] = bytes(self.data[begin:end])
            except (KeyError, TypeError, ValueError):
                texts[name], bytes_of[name] = str(entry), b""
        covered = {k: v for k, v in self.notes.items() if k not in ("sha256", "head_sha256")}
        begun = json.dumps(covered, sort_keys=True).encode()
        names = {name: f"{name!r} {texts[name]}".encode() for name in sorted(texts)}
        self.notes.pop("head_sha256", None)
        if not of_old:
            self.notes["head_sha256"] = hashlib.sha256(begun + b"".join(names.values())).hexdigest()
            covered["head_sha256"] = self.notes["head_sha256"]
            begun = json.dumps(covered, sort_keys=True).encode()
        parts = [part for name in names for part in (names[name], bytes_of[name])]
        self.notes["sha256"] = hashlib.sha256(begun + b"".join(parts)).hexdigest()
        self.signed(self.notes)

    def to_bytes(self):
        notes = self.in_notes(json.dumps(self.notes))
        metadata = {**self.metadata, "lincoln_fn": notes} if notes is not None else self.metadata
        header = self.in_header(json.dumps({"__metadata__": metadata, **self.header}))
        header = header if isinstance(header, bytes) else header.encode("utf-8", "surrogatepass")
        return len(header).to_bytes(8, "little") + header + bytes(self.data)


def told(of, **fields):
    """Claim something of a tensor."""
    return lambda file: file.header[of].update(fields)


def noted(**fields):
    return lambda file: file.notes.update(fields)


def with_strides(of, stride):
    return lambda file: file.notes["strides"].update({of: stride})


def with_rest(**texts):
    return lambda file: file.notes["rest"].update(texts)


def with_text(where, change):
    return lambda file: setattr(file, where, change)


def with_byte(of, place, value):
    """Put a byte into a tensor."""

    def change(file):
        file.data[file.header[of]["data_offsets"][0] + place] = value

    return change


def with_signature(**fields):
    return lambda file: setattr(file, "signed", lambda notes: notes.update(fields))


def shapes():
    of_weight = {
        r"expected weight|weight: expected float32\[2, 3\], got": [
            [3, 2], [6], [2, 3, 1], [1] * 60 + [2, 3],
        ],
        "bytes of 'weight' by its shape": [[], [2, 2], [0, 2**62], [2**62, 2**62], [2**61 + 6]],
        "expected a shape of 'weight'": [
            [-2, -3], ["2", 3], [2.0, 3.0], [True, 6], "23", None, {"0": 2}, [2**63, 0], [[2, 3]],
            [1] * 65 + [2, 3], 6,
        ],
    }  # fmt: skip
    for words, claims in of_weight.items():
        for claim in claims:
            yield f"shape {claim} of weight", told("weight", shape=claim), words
    for of, claim in (
        ("count", [1]), ("empty", [2, 0]), ("empty", [0, 2**62]), ("flags", [2, 2]),
        ("pair.0", []), ("kernel", [3, 2, 2, 2]),
    ):  # fmt: skip
        yield f"shape {claim} of {of}", told(of, shape=claim), f"{of}: expected"
    yield "shape [0] of count", told("count", shape=[0]), "bytes of 'count'"


def dtypes():
    for claim in ("U32", "F8_E4M3", "f32", "", None, 3, ["F32"], {"F32": 1}, "F32\0"):
        words = "expected one of BOOL, .* for 'weight', got"
        yield f"dtype {claim!r} of weight", told("weight", dtype=claim), words
    for claim in ("F16", "F64", "BOOL"):
        yield f"dtype {claim} of weight", told("weight", dtype=claim), "bytes of 'weight'"
    for of, claim in (("weight", "I32"), ("flags", "U8"), ("half", "F16"), ("empty", "F64")):
        yield f"dtype {claim} of {of}", told(of, dtype=claim), f"{of}: expected"


def offsets(begin, end, size):
    """Claim places of the weight, which is at begin and end, in so many bytes."""
    overlap_or_gap = [[begin + 1, end + 1], [0, 24], [size, size + 24], [2**62, 2**62 + 24]]
    other_size = [[begin, end + 4], [end, begin], [begin, end - 1], [0, 2**62], [0, 0]]
    no_offsets = [
        [-24, 0], [begin], [begin, end, end], None, {}, "0", [str(begin), str(end)],
        [float(begin), float(end)], [True, end], [begin, 2**63], end,
    ]  # fmt: skip
    for claims, words in (
        (overlap_or_gap, "its tensors overlap, or have a gap|expected [0-9]+ bytes, got"),
        (other_size, "bytes of 'weight' by its shape"),
        (no_offsets, "expected two offsets of 'weight'"),
    ):
        for claim in claims:
            yield f"offsets {claim}", told("weight", data_offsets=claim), words


def names():
    missing, cannot = "missing weight", "expected a name that safetensors can hold"
    for name, words in {
        "Weight": missing, "weight ": missing, "weight\0": missing, "wei\u200bght": missing,
        "": missing, "w" * 10_000: missing, "__metadata": missing, "\ud800": cannot,
    }.items():  # fmt: skip
        change = lambda f, n=name: f.header.update({n: f.header.pop("weight")})  # noqa: E731
        yield f"the name {name[:20]!r}", change, words
    for name in ("count", "empty", "pair.0"):
        twice = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        yield f"{name}.0 too", lambda f, n=name, t=twice: f.header.update({f"{n}.x": t}), "unexpec"
    for field in ("dtype", "shape", "data_offsets"):
        words = "expected dtype, shape and data_offsets of 'weight'"
        yield f"no {field}", lambda f, k=field: f.header["weight"].pop(k), words
        yield f"another {field}", told("weight", **{f"{field}s": 1}), words
    for entry in (None, 7, ["F32", [2, 3], [0, 24]]):
        change = lambda f, e=entry: f.header.update(weight=e)  # noqa: E731
        yield f"weight as {entry}", change, "expected dtype, shape and data_offsets of 'weight'"


def strides():
    wrong = {
        "weight": [
            [0, 0], [2, 1], [4, 1], [1, 3], [-3, -1], [3], [3, 1, 1], ["3", "1"], [3.0, 1.0],
            [True, 2], None, "31", {}, [2**62, 1], [10**400, 1], 3, [3, None], [],
        ],
        "kernel": [[12, 1, 6, 2], [24, 1, 6, 3], [12, 1, 6], [12, 0, 6, 3], [12, 1, 6, 2**50]],
        "count": [[1], 1], "empty": [[-1, 1], [2**70, 1], [1]],
        "nobody": [[1], []], "rate": [[]], "": [[1]],
    }  # fmt: skip
    for of, claims in wrong.items():
        for claim in claims:
            yield f"strides {claim!r:.30} of {of}", with_strides(of, claim), "has the strides"
    right = {
        "weight": [[1, 2], [3, 1]], "bias": [[1]], "kernel": [[12, 4, 2, 1], [1, 2, 6, 12]],
        "count": [[]], "empty": [[2, 1], [1, 0], [5, 5], [0, 2**62]], "pair.0": [[2**62], [0]],
    }  # fmt: skip
    for of, claims in right.items():
        for claim in claims:
            yield f"strides {claim} of {of}", with_strides(of, claim), RIGHT
    yield "no strides of kernel", lambda file: file.notes["strides"].clear(), RIGHT


def notes():
    for version in (0, 2, 1.0, True, "1", None, [1], 2**70):
        yield f"version {version}", noted(version=version), "expected version 1 of the format, got"
    for field in ("rest", "strides"):
        for value in (None, [], "{}", 0):
            yield f"{field} {value}", noted(**{field: value}), "its metadata is not complete"
    for text in (1, None, ["tuple"], {}):
        yield f"rest of {text}", with_rest(rate=text), "its metadata is not complete"
    for path, text in (
        ("rate", "0.50"), ("rate", ""), ("nothing", "0.5"), ("pair", "list"), ("", "list"),
        ("pair.1.0", "'other'"), ("pair.1.0", "text"), ("extra", "0.5"), ("pair.2", "None"),
    ):  # fmt: skip
        yield f"rest {path} {text}", with_rest(**{path: text}), "does not fit"
    for path in ("rate", "pair.1.0", ""):
        change = lambda f, p=path: f.notes["rest"].pop(p)  # noqa: E731
        yield f"rest without {path}", change, "does not fit"
    yield "rest of a tensor", with_rest(weight="static 5"), RIGHT
    yield "more notes", noted(more=[1, {"a": None}]), RIGHT
    for score in (math.nan, math.inf, -math.inf, "0.9", True, [0.9], {"score": 1}, 10**400):
        yield f"score {score!r:.20}", noted(score=score), RIGHT
    change = lambda text: text.replace('"score": null', '"score": 1e999')  # noqa: E731
    yield "score 1e999", with_text("in_notes", change), "checksum"
    for field in ("sha256", "head_sha256"):
        for value in ("", "0" * 64, "é" * 64):
            yield f"{field} {value:.5}", with_signature(**{field: value}), "checksum"
    for value in (None, 5, {}):
        yield f"sha256 {value}", with_signature(sha256=value), "not complete"
        yield f"head_sha256 {value}", with_signature(head_sha256=value), "checksum"


def texts():
    unreadable = {
        "nothing": lambda t: "", "null": lambda t: "null", "a list": lambda t: f"[{t}]",
        "a text": json.dumps, "cut off": lambda t: t[:-1], "twice": lambda t: t + t,
        "a mark before": lambda t: "\ufeff" + t, "without end": lambda t: "[" * 100_000,
        "deep": lambda t: t[:-1] + ',"x":' + "[" * 100_000,
        "a long number": lambda t: t[:-1] + ', "x": ' + "9" * 5000 + "}",
    }  # fmt: skip
    for name, change in unreadable.items():
        for where, words in (
            ("in_header", "cannot be read as safetensors"),
            ("in_notes", "its metadata cannot be read"),
        ):
            yield f"{where}: {name}", with_text(where, change), words
    in_header = {
        "a space before": lambda t: " " + t, "UTF-16": lambda t: t.encode("utf-16"),
        "Latin-1": lambda t: t.encode().replace(b"weight", b"w\xe9ight"),
        "a zero": lambda t: t + "\0",
        "a constant": lambda t: t.replace('"shape": [2, 3]', '"shape": [NaN, 3]'),
        "a zero before": lambda t: t.replace('"shape": [2, 3]', '"shape": [02, 3]'),
        "a tensor twice": lambda t: t[:-1] + t[t.index(', "weight"'):],
        "a field twice": lambda t: t.replace('"shape": [2, 3]', '"shape": [3, 2], "shape": [2, 3]'),
        "metadata twice": lambda t: t[:-1] + ', "__metadata__": {}}',
    }  # fmt: skip
    for name, change in in_header.items():
        yield f"header with {name}", with_text("in_header", change), "cannot be read as safetensors"
    change = lambda t: '{"version": 2, ' + t[1:]  # noqa: E731
    yield "the version twice", with_text("in_notes", change), "its metadata cannot be read"
    for name, change in {
        "lines": lambda t: json.dumps(json.loads(t), indent=2) + "\n",
        "escapes": lambda t: t.replace('"weight"', '"\\u0077eight"'),
        "another order": lambda t: json.dumps(dict(reversed(json.loads(t).items()))),
    }.items():  # fmt: skip
        yield f"header with {name}", with_text("in_header", change), RIGHT
    yield "no notes", with_text("in_notes", lambda t: None), "it has no lincoln_fn in its metadata"
    yield "more metadata", lambda file: file.metadata.update(format="pt"), RIGHT
    for value in (1, None, {}):
        change = lambda f, v=value: f.metadata.update(more=v)  # noqa: E731
        yield f"metadata with {value}", change, "its metadata is not text by name"
    for value in ("null", "7"):
        change = lambda t, v=value: t.replace('"__metadata__": {', f'"__metadata__": {v}, "x": {{')  # noqa: E731
        yield f"metadata of {value}", with_text("in_header", change), "its metadata is not text"


def sharing(file):
    """Have two tensors share bytes, at the file's end, and nothing else amiss."""
    del file.data[-4:]
    file.header["flags"]["data_offsets"] = file.header["half"]["data_offsets"]


def numbers():
    yield "two tensors in one place", sharing, "its tensors overlap"
    for value, place in ((2, 0), (255, 3)):
        change = with_byte("flags", place, value)
        yield f"a bool of {value} at {place}", change, "flags has a bool that is neither"
    for count in (1, 4096):
        yield f"{count} bytes more", lambda f, n=count: f.data.extend(bytes(n)), "expected .* bytes"
        yield f"{count} bytes less", lambda f, n=count: f.data.__delitem__(slice(-n, None)), "bytes"


BEGIN, END, SIZE = 120, 144, 152  # where the weight is, in so many bytes
LIES = [
    *shapes(), *dtypes(), *offsets(BEGIN, END, SIZE), *names(), *strides(), *notes(), *texts(),
    *numbers(),
]  # fmt: skip
BY_NAME = {name: (change, words) for name, change, words in LIES}


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


def test_each_lie_has_a_name_of_its_own():
    assert len(BY_NAME) == len(LIES) > 200


def test_the_weight_is_where_the_table_thinks(data):
    file = File(data)
    assert file.header["weight"]["data_offsets"] == [BEGIN, END]
    assert len(file.data) == SIZE


@pytest.mark.parametrize("of_old", [False, True], ids=["signed as now", "signed as by 0.1"])
def test_a_file_without_a_lie_is_signed_as_the_library_does(of_old, data, tmp_path):
    file = tmp_path / "file.safetensors"
    told = File(data)
    given = dict(told.notes)
    told.sign(of_old)
    assert of_old or told.notes == given
    file.write_bytes(told.to_bytes())
    assert same_bits(checkpoint.load(file, LIKE), TREE)
    with safe_open(file, "pt") as opened:
        assert sorted(opened.keys()) == sorted(told.header)


# Whichever checksums there are, the same code has read the file before they are compared.
TOLD = [(name, False) for name in BY_NAME] + [(name, True) for name in [*BY_NAME][::8]]


@pytest.mark.parametrize(("name", "of_old"), TOLD)
def test_a_lie_is_refused_or_does_not_matter(name, of_old, data, scored, tmp_path):
    change, words = BY_NAME[name]
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
