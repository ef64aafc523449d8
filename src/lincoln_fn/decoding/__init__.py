"""Text: a network run position by position, and the stream of tokens that it writes.

    decode(net)                                a decoder, whose state is explicit
    decoder.init(params, batch, max_length)    the state before the first position
    decoder.step(params, state, x)             the outputs of the next positions, and the state
    generate(decoder, params, prompt, ...)     a stream of (state, token)
    samplers                                   functions (logits, key) -> token
    beam_search(decoder, params, prompt, ...)  the most probable texts, and their scores

A layer that mixes positions decodes by its row of a table (`rows.py`). Every other layer works
position by position, which is tried before the first token (`trial.py`).
"""

from lincoln_fn.faces import face

face(__name__)
