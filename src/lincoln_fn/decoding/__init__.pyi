from lincoln_fn.decoding.beam_search import beam_search as beam_search
from lincoln_fn.decoding.decoder import (
    DecodeState as DecodeState, Decoder as Decoder, decode as decode,
)
from lincoln_fn.decoding.generate import generate as generate
from lincoln_fn.decoding.rows import (
    KeyValue as KeyValue, Recurrent as Recurrent, Row as Row, Window as Window,
)
