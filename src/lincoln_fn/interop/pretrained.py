"""Networks with pretrained weights, from and to folders of Hugging Face's library.

`architectures/` has a file for each family: the network that a config describes, and the names of
its parameters in a file. Neither reading nor writing needs Hugging Face's library.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

import torch

from lincoln_fn.core import FloatingDtype, Key, Layer, LayerError, Params, PositiveInt, checked
from lincoln_fn.interop.assembly import assemble, fitting, model_of, refuse
from lincoln_fn.interop.slots import expected
from lincoln_fn.interop.stored import CONFIG, Json, opened, read_json, write

Config: TypeAlias = Json
Folder: TypeAlias = str | os.PathLike[str]


@checked
def from_config(config: Config) -> Layer:
    """Make the network that a config of Hugging Face's library describes, without weights.

    Args:
        config: what config.json holds, with `model_type` and `architectures`; other options have
            the library's defaults. An unknown type or option is an error, which lists all of them.

    Example:
        >>> sizes = {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 16, "vocab_size": 11}
        >>> config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **sizes}
        >>> net, ids = from_config(config), torch.tensor([[3, 1, 4]])
        >>> net.predict(net.init(lf.Key(0), ids), ids).shape
        torch.Size([1, 3, 11])
    """
    model, problems = model_of(config)
    if model is None or problems:
        raise refuse("from_config", problems)
    return model.network.net


@checked
def from_pretrained(
    folder: Folder,
    *,
    architecture: str | None = None,
    dtype: FloatingDtype | None = None,
    ignore: tuple[str, ...] = (),
    key: Key = Key(0),
) -> tuple[Layer, Params, Config]:
    """Make a network with the weights of a folder that Hugging Face's library has saved.

    x is what the model's `forward` takes first, such as input_ids, or (input_ids, attention_mask).
    Masks may be of integers, as tokenizers make them, or of bools. y is its logits, or of a model
    without a head its last hidden state. `predict` computes what the model computes after `eval()`,
    and `forward` what it computes in training, with dropout.

    Args:
        folder: with config.json and model.safetensors, or with several such files and their index.
        architecture: the model's class there, such as "GPT2LMHeadModel"; None for the config's.
        dtype: of the params; None for those in the files.
        ignore: options and names of tensors that may be left out, as patterns such as "cls.*".
        key: dropout's keys are made from it.

    Raises:
        LayerError: if a file cannot be read, or if the model's type, an option or the name or shape
            of a tensor is not known. The message lists everything that is not.

    Example:
        >>> net, params, config = from_pretrained("gpt2")  # doctest: +SKIP
    """
    where, folder = "from_pretrained", Path(folder)
    try:
        config = read_json(folder / CONFIG)
        if architecture is not None:
            config["architectures"] = [architecture]
        with opened(folder) as stored:
            net, params = assemble(where, config, stored, dtype=dtype, ignore=ignore, key=key)
    except LayerError:
        raise
    except ValueError as error:
        raise LayerError(where, str(error)) from error
    return net, params, config


@checked
def save_pretrained(
    net: Layer,
    params: Params,
    config: Config,
    folder: Folder,
    *,
    max_shard_size: PositiveInt = 5 * 10**9,
) -> None:
    """Save params as Hugging Face's library does, which then loads them, bit for bit.

    Tokenizers and settings of text generation are not part of it.

    Args:
        net: the network, which the config describes; its parts may be `frozen`.
        folder: made if it does not exist. Weights that it has already are replaced.
        max_shard_size: the most bytes in a file; more are divided, with an index.

    Raises:
        LayerError: if the params do not fit the network of the config: the message lists five
            of each kind; or if the files cannot be written.
    """
    where = "save_pretrained"
    model, given = fitting(where, config, params)
    slots = {slot.name: slot for slot in model.slots}
    tensors = expected(model.slots, given)
    dtypes = {str(t.dtype).removeprefix("torch.") for t in tensors.values()}
    config = {**config, "dtype": dtypes.pop()} if len(dtypes) == 1 else config

    def read(name: str) -> torch.Tensor:
        return slots[name].joined(given[path] for path in slots[name].fields)

    try:
        write(Path(folder), config, tensors, read, max_shard_size)
    except ValueError as error:
        raise LayerError(where, str(error)) from error
