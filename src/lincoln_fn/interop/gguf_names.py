"""llama.cpp's names for options and tensors, in GGUF files, and Hugging Face's.

The tables are those of `architectures/_names.py`: braces are several rows.
"""

from typing import Final

from lincoln_fn.interop.architectures._names import read_pairs

# llama.cpp's options, below the name of the architecture, and Hugging Face's.
_OPTIONS: Final = """
    attention.head_count{,_kv}                        num_{attention,key_value}_heads
    attention.{key_length,layer_norm_rms_epsilon}     {head_dim,rms_norm_eps}
    attention.sliding_window                          sliding_window
    {attn,final}_logit_softcapping                    {attn,final}_logit_softcapping
    {block_count,context_length}                      {num_hidden_layers,max_position_embeddings}
    {embedding,feed_forward}_length                   {hidden,intermediate}_size
    rope.freq_base                                    rope_theta
    vocab_size                                        vocab_size
"""
# And its names of tensors' parts.
_NAMES: Final = """
    attn_{q,k,v,qkv,output}              self_attn.{q,k,v,qkv,o}_proj
    attn_{q,k}_norm                      self_attn.{q,k}_norm
    {attn,ffn}_norm                      {input,post_attention}_layernorm
    ffn_{gate,up,down}                   mlp.{gate,up,down}_proj
    output                               lm_head
    {output_norm,token_embd}             model.{norm,embed_tokens}
"""
OPTIONS: Final = {row.name: row.paths[0] for row in read_pairs(_OPTIONS)}
NAMES: Final = {row.name: row.paths[0] for row in read_pairs(_NAMES)}
