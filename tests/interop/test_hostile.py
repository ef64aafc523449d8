"""Files of models that are made to take memory or time, to run code or to write elsewhere.

Each is refused by one `LayerError`, or whole. Nothing that a file claims is allocated.
"""

import json
import math
import re
import struct
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers import assert_says, normal
from torch.utils._python_dispatch import TorchDispatchMode

import lincoln_fn as lf
from lincoln_fn.checkpoint.places import read_head
from lincoln_fn.interop import from_config, from_gguf, from_pretrained, save_pretrained
from lincoln_fn.interop.architectures import FAMILIES
from lincoln_fn.interop.pretrained import model_of

LARGE = 10**9


class NoMemory(TorchDispatchMode):
    """Refuse an operation that would make a large tensor with numbers of no other one."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        is_meta = kwargs.get("device") == torch.device("meta")
        if not (is_meta or any(isinstance(given, torch.Tensor) for given in args)):
            sizes = [n for n in lf.tree.leaves((args, kwargs)) if type(n) in (int, float)]
            if max(sizes, default=0) >= LARGE:
                pytest.fail(f"{function} of {sizes}")  # which no `except Exception` catches
        return function(*args, **kwargs)


def small_config(kind):
    """Make a config of a family, with a tenth of its sizes and one part of each kind."""
    family = FAMILIES[kind]
    ends = ("n_layer", "_layers", "_experts")
    parts = {n: 1 for n, v in family.defaults.items() if type(v) is int and n.endswith(ends)}
    return {"model_type": kind, "architectures": [list(family.architectures)[-1]], **parts}


SIZES = [
    pytest.param(kind, name, marks=[pytest.mark.full] * (kind not in ("gpt2", "llama")))
    for kind, family in FAMILIES.items()
    for name, value in family.defaults.items()
    if type(value) is int and "." not in name and not name.endswith("token_id")
]


@pytest.mark.parametrize(("kind", "name"), SIZES)
def test_a_size_in_a_config_takes_no_memory(kind, name):
    with NoMemory():
        model, problems = model_of({**small_config(kind), name: LARGE})
    assert problems or model.like is not None
    if name.endswith(("n_layer", "hidden_layers", "num_layers", "decoder_layers", "_experts")):
        assert f"{name}: expected at most 10000" in problems[0]


VALUES = [None, 0, -1, 1.5, math.nan, 10**30, "x", [[]], {"type": "yarn"}]
OPTIONS = [
    *((kind, name) for kind in ("gpt2", "llama") for name in FAMILIES[kind].defaults),
    *(("llama", name) for name in ("architectures", "rope_scaling", "rope_parameters", "id2label")),
]


@pytest.mark.full
@pytest.mark.parametrize(("kind", "name"), OPTIONS)
def test_a_value_of_any_kind_in_a_config_gives_a_network_or_an_error(kind, name):
    for value in VALUES:
        with NoMemory():
            model, problems = model_of({**small_config(kind), name: value})
        assert model is not None or problems


def test_a_file_with_a_config_has_as_many_layers_as_tensors_at_most(tmp_path):
    folder = saved(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for number, words in ((10**9, "expected at most 16"), (10**30, "at most 16"), ("x", "do not")):
        (folder / "config.json").write_text(json.dumps({**config, "n_layer": number}))
        with pytest.raises(lf.LayerError, match=words):
            from_pretrained(folder)


@cache
def made():
    sizes = {"n_layer": 1, "n_embd": 4, "n_head": 2, "n_positions": 8, "vocab_size": 5}
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **sizes}
    net, ids = from_config(config), torch.tensor([[3, 1, 4]])
    return net, net.init(lf.Key(0), ids), config


def saved(folder):
    save_pretrained(*made(), folder)
    return folder


@pytest.mark.parametrize(("text", "words"), [
    ("[" * 10_000, "cannot be read"), ("{}", "model_type: expected one of"), ("3", "an object"),
    ('{"model_type": ["gpt2"]}', "model_type: expected one of"), ("\xff", "cannot be read"),
    ('{"model_type": "gpt2", "architectures": 5}', "do not fit together"),
    ('{"model_type": "gpt2", "architectures": [[]]}', "do not fit together"),
    (None, "expected at most 16777216 bytes"),
])  # fmt: skip
def test_a_config_that_is_no_config(text, words, tmp_path):
    file = saved(tmp_path) / "config.json"
    with file.open("wb") as opened:
        opened.truncate(2**25) if text is None else opened.write(text.encode("latin-1"))
    with pytest.raises(lf.LayerError, match=words.replace("an object", "expected a JSON object")):
        from_pretrained(tmp_path)


# What else a header may claim is tried in checkpoint/test_misleading.py.
HEADERS = {
    "longer than its tensors": (94 * 10**6, "", "longer than the file, its tensors"),
    "numbers that are not there": (
        None, json.dumps({"x": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}}),
        "expected .* bytes, got"),
}  # fmt: skip


@pytest.mark.parametrize(("length", "text", "words"), HEADERS.values(), ids=HEADERS)
def test_a_header_of_safetensors_is_held_against_the_file(length, text, words, tmp_path):
    file = saved(tmp_path) / "model.safetensors"
    with file.open("wb") as opened:
        opened.write((len(text) if length is None else length).to_bytes(8, "little"))
        opened.write(text.encode())
        if length == 94 * 10**6:
            opened.truncate(8 + length)  # takes no room on the disk
    with NoMemory(), pytest.raises(lf.LayerError, match=words):
        from_pretrained(tmp_path)


def test_a_long_header_with_as_many_bytes_of_tensors_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("lincoln_fn.checkpoint.places.LONG", 100)
    file = tmp_path / "file"
    assert_says("CheckpointError: at most 100 bytes", lf.checkpoint.save, file, torch.zeros(2))
    lf.checkpoint.save(file, torch.zeros(400))
    with file.open("rb") as opened:
        assert read_head(opened, file.stat().st_size).places[""].shape == (400,)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "a/b", "", "a\0", 5, None, []])
def test_an_index_names_files_of_its_folder_only(name, tmp_path):
    index = saved(tmp_path) / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"transformer.wte.weight": name}}))
    with pytest.raises(lf.LayerError, match=r"expected weight_map|a directory|a file can"):
        from_pretrained(tmp_path)


def test_nothing_that_is_read_is_unpickled_or_run():
    """Programs of ONNX and torch.export are written and never read."""
    # Of what another process of this library has sent, or in a pickle that runs already.
    own = {"pickle.loads", "cloudpickle.loads"}
    text = "".join(file.read_text() for file in Path(lf.__file__).parent.rglob("*.py"))
    loads = re.findall(
        r"^(?!.*(?:>>>|program = )).*\b((?:\w*pickle|torch[.\w]*|onnx)\.loads?)\b", text, re.M
    )
    assert ({*loads}, len(loads)) == (own, 2)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_save_pretrained_does_not_write_through_a_link(name, tmp_path):
    secret, folder = tmp_path / "secret", tmp_path / "folder"
    secret.write_text("mine")
    folder.mkdir()
    (folder / name).symlink_to(secret)
    saved(folder)
    assert secret.read_text() == "mine"
    assert not (folder / name).is_symlink()
    from_pretrained(folder)


# GGUF, written by hand.

gguf = pytest.importorskip("gguf", reason="its numbers are computed by the gguf library")

U32, F32, TEXT, ARRAY = 4, 6, 8, 9
NUMBER = {
    "block_count": 1, "context_length": 8, "embedding_length": 4, "feed_forward_length": 4,
    "attention.head_count": 2, "attention.head_count_kv": 2,
}  # fmt: skip
MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
SHAPES = {
    "token_embd.weight": (4, 5), "output_norm.weight": (4,),
    **{f"blk.0.{name}.weight": (4, 4) for name in MATRICES},
    **{f"blk.0.{name}.weight": (4,) for name in ("attn_norm", "ffn_norm")},
}  # fmt: skip


def text(name):
    raw = name if isinstance(name, bytes) else name.encode()
    return struct.pack("<Q", len(raw)) + raw


def option(name, kind, raw):
    return text(name) + struct.pack("<I", kind) + raw


def u32(name, number):
    return option(f"llama.{name}", U32, struct.pack("<I", number))


def tensor(name, shape, kind=0, offset=0):
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + sizes + struct.pack("<IQ", kind, offset)


def gguf_bytes(options=(), tensors=(), numbers=None, counts=None, architecture="llama"):
    """Write a small llama, with further options and tensors, or other numbers and counts."""
    listed = [option("general.architecture", TEXT, text(architecture))]
    listed += [u32(name, n) for name, n in {**NUMBER, **(numbers or {})}.items() if n is not None]
    listed += options
    offset, places, data = 0, [], b""
    for i, (name, shape) in enumerate(SHAPES.items()):
        places.append(tensor(name, shape, offset=offset))
        values = normal(*shape, seed=i).numpy().tobytes()
        data += values.ljust(-(-len(values) // 32) * 32, b"\0")
        offset = len(data)
    places += tensors
    head = b"GGUF" + struct.pack("<IQQ", 3, *(counts or (len(places), len(listed))))
    head += b"".join([*listed, *places])
    return head + bytes(-len(head) % 32) + data


def array(kind, count, raw=b""):
    return option("x", ARRAY, struct.pack("<IQ", kind, count) + raw)


NESTED = struct.pack("<IQ", ARRAY, 1) * 5000
FILES = {
    "an array of 2^60 numbers": ({"options": [array(0, 2**60)]}, "it ends before what"),
    "an array of 2^60 texts": ({"options": [array(TEXT, 2**60)]}, "it ends before what"),
    "arrays in arrays": ({"options": [array(ARRAY, 1, NESTED)]}, "expected a type of numbers"),
    "a name of no UTF-8": ({"options": [option(b"\xff", U32, bytes(4))]}, "can't decode"),
    "an option of no type": ({"options": [option("x", 77, b"")]}, "expected a type of numbers"),
    "an option twice": ({"options": [u32("block_count", 1)]}, "two options of the name llama.blo"),
    "a tensor twice": ({"tensors": [tensor("token_embd.weight", (4, 5))]}, "two tensors of the"),
    "2^60 options": ({"counts": (12, 2**60)}, "expected at most 65536 options"),
    "2^60 tensors": ({"counts": (2**60, 7)}, "expected at most 65536 tensors"),
    "a tensor too many": ({"counts": (13, 7)}, "cannot be read as GGUF"),
    "an alignment of 0": (
        {"options": [option("general.alignment", U32, bytes(4))]}, "expected a power of 2, got 0"),
    "an alignment that is a text": (
        {"options": [option("general.alignment", TEXT, text("x"))]}, "expected a power of 2"),
    "10^6 axes": ({"tensors": [text("x") + struct.pack("<I", 10**6)]}, "expected at most 8 axes"),
    "2^186 numbers": ({"tensors": [tensor("x", (2**62,) * 3)]}, "ends before the numbers of x"),
    "no numbers": ({"tensors": [tensor("x", (0, 2**62))]}, "expected rows of at least one number"),
    "a place beyond the file": (
        {"tensors": [tensor("x", (1,), offset=2**63)]}, "ends before the numbers of x"),
    "a quantisation of no number": ({"tensors": [tensor("x", (1,), 99)]}, "99 is not a valid"),
    "half a block": ({"tensors": [tensor("x", (16,), 2)]}, "in blocks of 32, got the shape"),
    "10^9 layers": ({"numbers": {"block_count": LARGE}}, "num_hidden_layers: expected at most 11"),
    "no heads": ({"numbers": {"attention.head_count": 0}}, "head_count: expected a positive numb"),
    "heads that are a text": ({"numbers": {"attention.head_count": None},
            "options": [option("llama.attention.head_count", TEXT, text("two"))]},
        "head_count: expected a positive number, got 'two'"),
    "3 heads": ({"numbers": {"attention.head_count": 3}}, "expected"),
    "a large width": ({"numbers": {"embedding_length": LARGE}}, "expected shape"),
    "no architecture": ({"architecture": ""}, "general.architecture: expected one of"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), FILES.values(), ids=FILES)
def test_a_gguf_file_is_held_against_its_length(arguments, words, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf_bytes(**arguments))
    with NoMemory(), pytest.raises(lf.LayerError, match=words):
        from_gguf(file)


@pytest.mark.full
def test_a_gguf_file_of_any_damage_is_refused_or_whole(tmp_path):
    """At 200 places of the head one byte is another, and 50 files are cut."""
    file = tmp_path / "model.gguf"
    whole = gguf_bytes(options=[array(0, 3, b"abc")])
    file.write_bytes(whole)
    _, params, _ = from_gguf(file, ignore=("x",))
    shapes = [leaf.shape for leaf in lf.tree.leaves(params)]
    head = len(whole) - 4 * sum(-(-math.prod(shape) * 4 // 32) * 8 for shape in SHAPES.values())
    places = [i * head // 200 for i in range(200)]
    damaged = [(whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :]) for i in places]
    cut = [whole[: i * len(whole) // 50] for i in range(50)]
    refused = 0
    for data in damaged + cut:
        file.write_bytes(data)
        with NoMemory():
            try:
                _, params, _ = from_gguf(file, ignore=("x",))
            except lf.LayerError:
                refused += 1
            else:
                assert [leaf.shape for leaf in lf.tree.leaves(params)] == shapes
    assert 150 < refused < 250
