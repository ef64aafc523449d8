from lincoln_fn.decoding.attention import KeyValue as KeyValue
from lincoln_fn.decoding.beam_search import beam_search as beam_search
from lincoln_fn.decoding.convolution import Window as Window
from lincoln_fn.decoding.decoder import (
    DecodeState as DecodeState, Decoder as Decoder, decode as decode,
)
from lincoln_fn.decoding.generate import generate as generate
from lincoln_fn.decoding.recurrent import Recurrent as Recurrent
from lincoln_fn.decoding.row import Row as Row
