"""Text: a network run position by position, and the stream of tokens that it writes.

    decode(net)                                a decoder, whose state is explicit
    decoder.init(params, batch, max_length)    the state before the first position
    decoder.step(params, state, x)             the outputs of the next positions, and the state
    generate(decoder, params, prompt, ...)     a stream of (state, token)
    samplers                                   functions (logits, key) -> token

A layer that mixes positions decodes by its row of a table (`rows.py`). Every other layer works
position by position, which is tried before the first token (`trial.py`).
"""

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.decoding.attention import KeyValue as KeyValue
from lincoln_fn.decoding.convolution import Window as Window
from lincoln_fn.decoding.decoder import Decoder as Decoder
from lincoln_fn.decoding.decoder import DecodeState as DecodeState
from lincoln_fn.decoding.decoder import decode as decode
from lincoln_fn.decoding.generate import generate as generate
from lincoln_fn.decoding.recurrent import Recurrent as Recurrent
from lincoln_fn.decoding.row import Row as Row

_export_all(globals())
