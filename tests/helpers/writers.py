"""Networks that write text, and the text that they are given."""

import torch

import lincoln_fn as lf

N, WIDTH, LENGTH = 11, 16, 12
TOKENS = torch.randint(N, (3, LENGTH), generator=torch.Generator().manual_seed(0))


def on_tokens(*layers):
    return lf.serial(lf.embedding(N, WIDTH), *layers)


def gpt(attention, positions):
    attend = lf.serial(lf.layer_norm(), attention)
    think = lf.serial(lf.layer_norm(), lf.dense(32), lf.gelu(), lf.dense(WIDTH))
    block = lf.serial(lf.residual(attend), lf.residual(think))
    return on_tokens(positions, lf.repeat(2, block), lf.layer_norm(), lf.dense(N))


def llama(**options):
    attention = lf.grouped_query_attention(4, 2, **options)
    block = lf.serial(
        lf.residual(lf.serial(lf.rms_norm(), attention)),
        lf.residual(lf.serial(lf.rms_norm(), lf.swiglu(24))),
    )
    return lf.tied(lf.embedding(N, WIDTH), lf.serial(lf.repeat(2, block), lf.rms_norm()))


CAUSAL = lf.multi_head_attention(4, is_causal=True, dropout=0.2)
