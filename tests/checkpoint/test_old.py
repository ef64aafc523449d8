"""Files as version 0.1 wrote them: loaded bit for bit, their scores held against the whole."""

import base64
import math
import pkgutil
import zlib

import pytest
import torch
from helpers.checkpoints import blank, name, state_at
from helpers.compare import same_bits

from lincoln_fn import checkpoint
from lincoln_fn.checkpoint import CheckpointError, Directory, contents
from lincoln_fn.checkpoint.file import score_of


def unpacked(text):
    return zlib.decompress(base64.b85decode(text))


# fmt: off
TREE_FILE = unpacked(
    "c-n=KPiosh6vpLjO1If|V+Ln8HKUO<QoM*n76CzNAY03b@n|L%=ueQ8mS9YC2A!dsUclZOvg#RhhTfrXBvTwxx3k"
    "dbeeeCgH+=guqd#jD$GL2H!W$mPXtqXKT8J_$VpX6ST1V)Mtm?EZA~YMDcpRZh){QQprLPDjsQ^K@vT9Js)ER`LE"
    "aV`4?*FtFMURBY%R$akZMM;R-Bf8J>x1=InclDZJ#%Vfy_w;$wHPKvS@pJL>N>r!;?!Y-qb2B)b7e}FDA!`txwMu"
    "_*+kinNE`|um$)7$o^lA|mf()Zs4xZLlu_5V;5G0bB+AF4(Qzcr(}RR0LS`eZH|c7=z^G5GRH~Lu4GO^?ybdi>UL"
    "RvO7CpkOx15J5(V)y9ny1qw!SpRl$pIeHI!&9{!uAOV(`4FW#WQtmaD8L4BZt4R0Ah34|MFu>UWN5vRxhTuW>v=T"
    "UqyC(d;96%nE?s3yVz{T?~Fg^*)aCsMu*}eJiodK+pAsP!F}!*9rJhj+=nqAbU$prgSPeC$xqNbzuW$To)NT@_W{"
    "fYyZl2Cwv(XSehh#Opas1UdUwIzH})gr%orJ?-}|xmbN"
)
# Of the steps 1, 2 and 3, with the scores 0.5, 0.9 and nan.
STEP_FILES = {
    1: unpacked(
        "c-oba!D@ss5Qg11k(`6XRAbglZ-vrhds{_D9a*WXV$#AQLLaq{(u{6Fx~C49I5YqEPnhq6x5mth;(``xuuv2%omt"
        "oR)zI}t)3cP#8T-V^v_qe<)DO9zu?dZ(#I@+kc0gb!X#3!e&Q}W-Ge*P+6I{$DwjX16D-WYB%%=L&dB^LWwX2!ng"
        "&GS<jGfvVSJQbbRKv77i6CC{GsswNHc+7uI*t>WC>bA>R!N0n*?`1S>9VdPC>3gjGJ!;ejS>**M2HeJM%7WenQkg"
        "QD=1rQXiK%dj_4NjtRlu~7-grNvvrX}(-<V-NpPJz)L0z<gJ~Wr;<nWVV$VK3$Q>*1;ZSiI<;&u`@NRMV{qepY>H"
        "7i4keDt"
    ),
    2: unpacked(
        "c-oavO>2ZO6tw*%lCy|rlWg?VQ=#<O-d2&A4_4}`Bxzw0|7(9r^K>cFJ#`=n@4cCMVZI-t6*Fp@i}peZFPa9GGwQ"
        "oRj{VS>0hMU3(3iHZ8;1&&ah}8#vf6nl!U&#fCrG^&-H^V+{pN+&6#~U1thl(1>_4ae)*dI{xQ+E^@}aMH)}iOpR"
        "~Rfnao%=Hucq_XkfU9lvb0$1v%r*XHat7>LypZ6n}R9XO3vt!31MhXmDGw$LMWq>63Pux7;7ncP6;OkVZ6=4&af4"
        "}mA0LCkdpG(Nr!-57(odvgX&Z#Xbo~S#%Um)vV_+`>b#!*BjZWVK(|GgW_#`P0q?Z<UYxT8lX_X=far$D=oe3Leg"
        "Iz|mc9"
    ),
    3: unpacked(
        "c-oba!D@ss5QZ&%5y@FZ6OCC<dn%N|UfSC#l1(O5>Z+Kuu!!&4M`=d4uyjuyFmY!7@1HQ=55XEUX__-Qsil)mL&}"
        "+SZLfx|Z%j{0GFRjaCfg2uManRZ!ir2_9VWhoS9Jr#Zjx;uzv21nq=SkeG0I7v?Iw1gV|OhNqigJ@`qTM<%bm5a+"
        "4uz;3reh;S`Dk|ycN_itxgAdSo3#DbH3S7zLSt=S`|>Fz!?LT8!ZhJ8h{DP4NLQa8f8v2&2`2Krlcrzkr<)1Fn*?"
        "=iqDEqt+Ti#?Jgtu1wHeOL^uqyV;zxok%KW7P<TutQG3)n82^KbDCNj)tBaFc_KDFOmfpiDk7!meOXwrG#^di#u;"
        "1hN0|{N2?*"
    ),
}
# fmt: on


def tree():
    """Make what was saved in the first of them."""
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


LIKE = state_at(0)


@pytest.fixture
def folder(tmp_path):
    for step, data in STEP_FILES.items():
        (tmp_path / name(step)).write_bytes(data)
    return tmp_path


def test_a_file_of_0_1_is_loaded_bit_for_bit(tmp_path):
    file = tmp_path / "old.safetensors"
    file.write_bytes(TREE_FILE)
    assert b"head_sha256" not in TREE_FILE
    like = tree()
    loaded = checkpoint.load(file, blank(like))
    assert loaded["weight"].stride() == like["weight"].stride() == (24, 1, 6, 3)
    assert same_bits(loaded, like)
    assert score_of(file) == 0.75


@pytest.mark.parametrize(
    ("kind", "now"),
    [
        ("lincoln_fn.train.TrainState", "lincoln_fn.training.train.TrainState"),
        ("lincoln_fn.rules._feedback.FeedbackParams", "lincoln_fn.rules.feedback.FeedbackParams"),
        ("lincoln_fn.rules._blocks.Projections", "lincoln_fn.rules.matrices.Projections"),
        ("lincoln_fn.replay.partial_result.Partial", "lincoln_fn.replay.walk_back.Partial"),
        ("lincoln_fn.curvature._eigen.Eigen", "lincoln_fn.curvature.kfac_factors.Eigen"),
        ("lincoln_fn.finetune.low_rank.Params", "lincoln_fn.finetune.lora.LowRankParams"),
        ("lincoln_fn.layers.dense.Params", "lincoln_fn.layers.dense.Params"),
        *(
            (f"lincoln_fn.layers.{name}.Params", "lincoln_fn.layers.dropout.Params")
            for name in ("rrelu", "fractional_max_pool")
        ),
        ("mine.train.TrainState", "mine.train.TrainState"),
        ("list", "list"),
    ],
)
def test_a_class_has_the_name_of_today(kind, now):
    assert contents._current_kind(kind) == now


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


def test_a_directory_of_0_1_goes_on(folder):
    directory = Directory(folder, keep_last=1)
    assert int(directory.latest(LIKE).step) == 3
    assert int(directory.best(LIKE).step) == 2  # nan, which 0.1 took, is no score
    directory.save(state_at(4), score=0.7)
    assert sorted(file.name for file in folder.iterdir()) == [name(2), name(4)]
    directory.save(state_at(5), score=0.95)
    assert sorted(file.name for file in folder.iterdir()) == [name(5)]


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_in_a_score_of_0_1_is_seen(bit, folder):
    data = bytearray(STEP_FILES[1])
    data[data.index(b'score\\": 0.5') + len(b'score\\": 0.')] ^= 1 << bit
    (folder / name(1)).write_bytes(data)
    with pytest.raises(CheckpointError, match=r"is damaged|cannot be read as safetensors"):
        score_of(folder / name(1))
    directory = Directory(folder, keep_last=1)
    directory.save(state_at(4))
    assert int(directory.best(LIKE).step) == 2
