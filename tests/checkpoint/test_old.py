"""Files of 0.1 and 0.2.0 are loaded bit for bit; test_misleading.py tells lies under them."""

import base64
import math
import pkgutil
import zlib

import pytest
import torch
from helpers import same_bits
from helpers.checkpoints import blank

import lincoln_fn as lf
from lincoln_fn import checkpoint
from lincoln_fn.checkpoint import contents
from lincoln_fn.checkpoint.file import score_of

# fmt: off
TREE_FILE = zlib.decompress(base64.b85decode(
    "c-n=KPiosh6vpLjO1If|V+Ln8HKUO<QoM*n76CzNAY03b@n|L%=ueQ8mS9YC2A!dsUclZOvg#RhhTfrXBvTwxx3k"
    "dbeeeCgH+=guqd#jD$GL2H!W$mPXtqXKT8J_$VpX6ST1V)Mtm?EZA~YMDcpRZh){QQprLPDjsQ^K@vT9Js)ER`LE"
    "aV`4?*FtFMURBY%R$akZMM;R-Bf8J>x1=InclDZJ#%Vfy_w;$wHPKvS@pJL>N>r!;?!Y-qb2B)b7e}FDA!`txwMu"
    "_*+kinNE`|um$)7$o^lA|mf()Zs4xZLlu_5V;5G0bB+AF4(Qzcr(}RR0LS`eZH|c7=z^G5GRH~Lu4GO^?ybdi>UL"
    "RvO7CpkOx15J5(V)y9ny1qw!SpRl$pIeHI!&9{!uAOV(`4FW#WQtmaD8L4BZt4R0Ah34|MFu>UWN5vRxhTuW>v=T"
    "UqyC(d;96%nE?s3yVz{T?~Fg^*)aCsMu*}eJiodK+pAsP!F}!*9rJhj+=nqAbU$prgSPeC$xqNbzuW$To)NT@_W{"
    "fYyZl2Cwv(XSehh#Opas1UdUwIzH})gr%orJ?-}|xmbN"
))
# A file of 0.2.0, whose options stand in one field.
PLATEAU_FILE = zlib.decompress(base64.b85decode(
    "c-obc!EW3j5Qd{ZiN&dvkOdfQ*h_Dba;ubMyt3F~Xe>E+W!SdSYL!P$-k=5hvg#$;xePPR_YVX7`Es|~nGC}VChKgn!$5X"
    "tGK~S|DGWZ49Xa>p7cOy}Lr-=Ur&UiDjHv{9tGNCOsOMuEU+M+j32>OhaGY#Hd#ZnI{xN0OlcG{8=MXoAnDZl4Us<ha)zF"
    "I7jIrE|t;=s4F@}K4R-aDCDeGM5$}XeBRp`7WU|z6<;WSMp@r>3D@!1O1Za8q$D5jin8n8pdJ$FV~>p7Q9F%DjXR-MUZ1|"
    "_$~c1j%#a%epm?YHw>E23rCaiNX#2Ajq;OrcbYYo_c08_}8u5IX=5!YKhdOC79~x&<bEYw|348gj^2Tb{tB*CXcJzi%a>r"
    "BR8V_LQuzG<zR0#hhVO?=u#`PIwEaDQ^q-+m2}rKd;e;Pf*@cAy;-@BHls@NgJ`hT&mUnuJ-=6{lbs$cmLTxHGs)k"
))
# fmt: on


def tree():
    """Make what was saved in it."""
    image = torch.arange(24.0).reshape(1, 3, 4, 2).to(memory_format=torch.channels_last)
    return {
        "weight": image / 7,
        "bias": torch.tensor([-0.0, math.nan, 1e-45]),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "flags": torch.tensor([True, False, True]),
        "none": None,
        "lr": 0.5,
        "empty": torch.zeros(0, 2),
        "count": torch.tensor(7),
        "é": [torch.tensor([1, 2], dtype=torch.int16)],
    }


def test_a_file_of_0_1_is_loaded_bit_for_bit(tmp_path):
    file = tmp_path / "old.safetensors"
    file.write_bytes(TREE_FILE)
    assert b"head_sha256" not in TREE_FILE
    like = tree()
    loaded = checkpoint.load(file, blank(like))
    assert loaded["weight"].stride() == like["weight"].stride() == (24, 1, 6, 3)
    assert same_bits(loaded, like)
    assert score_of(file) == 0.75


def test_a_state_of_reduce_on_plateau_of_0_2_is_loaded_bit_for_bit(tmp_path):
    file, optim = tmp_path / "old.safetensors", lf.optim
    file.write_bytes(PLATEAU_FILE)
    state = optim.chain(optim.reduce_on_plateau(0.5, patience=3), optim.sgd()).init(torch.ones(2))
    assert same_bits(checkpoint.load(file, blank(state)), state)


# By the name of a class when it was saved, that of today, within lincoln_fn.
NAMES = {
    "train.TrainState": "training.train.TrainState",
    "rules._feedback.FeedbackParams": "rules.feedback.FeedbackParams",
    "rules.sign_symmetric.Scales": "rules.feedback_alignment.Scales",
    "distributed.sharding.sharded_params.Sharded":
        "distributed.data_parallel.sharded_params.Sharded",
    "finetune.low_rank.Params": "finetune.lora.LowRankParams",
    "layers.dense.Params": "layers.dense.Params",
}  # fmt: skip


def test_a_class_has_the_name_of_today():
    for kind, now in NAMES.items():
        assert contents._current_kind(f"lincoln_fn.{kind}") == f"lincoln_fn.{now}"
    for other in ("mine.train.TrainState", "list"):
        assert contents._current_kind(other) == other


@pytest.mark.parametrize("now", contents._MOVED.values())
def test_what_has_moved_is_where_the_table_says(now):
    found = pkgutil.resolve_name(now)
    if isinstance(found, type):
        assert now == f"{found.__module__}.{found.__qualname__}"


def test_what_is_saved_now_has_the_checksum_of_0_1_too(tmp_path):
    """So that version 0.1 loads it: one more note is covered by its checksum like the others."""
    file = tmp_path / "new.safetensors"
    checkpoint.save(file, tree(), score=0.75)
    data = file.read_bytes()
    length = 8 + int.from_bytes(data[:8], "little")
    old = 8 + int.from_bytes(TREE_FILE[:8], "little")
    assert data[length:] == TREE_FILE[old:]  # and each tensor at the same place
    assert b'\\"version\\": 1' in data[:length]
