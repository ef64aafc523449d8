"""A folder of pretrained weights: config.json and safetensors files, read and written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.checkpoint import internal as files

CONFIG: Final = "config.json"
Json: TypeAlias = dict[str, Any]  # Any: JSON of any kind
_SINGLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_PICKLED: Final = "pytorch_model*.bin"


class Stored(NamedTuple):
    """Tensors that are read when they are needed."""

    # On `meta`, by name.
    tensors: Mapping[str, Tensor]
    # name -> the tensor, in new memory or in that of its owner
    read: Callable[[str], Tensor]


def read_json(path: Path) -> Json:
    """Read a JSON object, or raise a ValueError that names the file."""
    try:
        with files.reading(path) as (file, size):
            if size > files.LONG:
                raise ValueError(f"expected at most {files.LONG} bytes, got {size}")
            made = json.loads(file.read(size))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(made, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(made).__name__}")
    return made


@contextmanager
def opened(folder: Path, only: str | None = None) -> Iterator[Stored]:
    """Open a folder's safetensors files, those of a model or only one of a name.

    A ValueError names a file that cannot be read.
    """
    tensors: dict[str, Tensor] = {}
    found: dict[str, tuple[BinaryIO, int]] = {}
    with ExitStack() as stack:
        for path in _files(folder) if only is None else [folder / only]:
            try:
                file, size = stack.enter_context(files.reading(path))
                head = files.read_head(file, size)
                for name, place in head.places.items():
                    tensors[name] = torch.empty(place.shape, dtype=place.dtype, device="meta")
                    found[name] = file, head.start + place.begin
            except (ValueError, RuntimeError) as error:  # torch's, for an empty tensor too large
                raise ValueError(f"{path} cannot be read as safetensors: {error}") from error

        def read(name: str) -> Tensor:
            file, begin = found[name]
            like = tensors[name]
            file.seek(begin)
            return files.read_bytes(file, like.nbytes).view(like.dtype).view(like.shape)

        yield Stored(tensors, read)


def _files(folder: Path) -> list[Path]:
    if (folder / _INDEX).is_file():
        entries = read_json(folder / _INDEX).get("weight_map")
        names = list(entries.values()) if isinstance(entries, dict) else [None]
        # A name with folders in it could lead anywhere.
        if not all(isinstance(name, str) and os.path.basename(name) == name for name in names):
            raise ValueError(f"{folder / _INDEX}: expected weight_map to name files of the folder")
        return [folder / name for name in sorted(map(str, {*names}))]
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    problem = f"{folder} has neither {_SINGLE} nor {_INDEX}"
    if any(folder.glob(_PICKLED)):
        mend = "load it in Hugging Face's library and save_pretrained it again"
        problem += f"; its {_PICKLED} is pickled, and nothing is unpickled here: {mend}"
    raise ValueError(problem)


def write(
    folder: Path,
    config: Json,
    tensors: Mapping[str, Tensor],
    read: Callable[[str], Tensor],
    most_bytes: int,
) -> None:
    """Write a folder as Hugging Face's library does, in one file, or several with an index.

    `tensors` are on `meta`: each is read when it is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Tensor]] = [{}]
    for name, tensor in tensors.items():
        if shards[-1] and sum(t.nbytes for t in shards[-1].values()) + tensor.nbytes > most_bytes:
            shards.append({})
        shards[-1][name] = tensor
    names = [_SINGLE]
    if len(shards) > 1:
        total = len(shards)
        names = [f"model-{i:05}-of-{total:05}.safetensors" for i in range(1, total + 1)]
    for name, shard in zip(names, shards, strict=True):
        write_file(folder / name, shard, read)
    if len(shards) > 1:
        entries = {t: name for name, shard in zip(names, shards, strict=True) for t in shard}
        size = sum(tensor.nbytes for tensor in tensors.values())
        write_json(folder / _INDEX, {"metadata": {"total_size": size}, "weight_map": entries})
    write_json(folder / CONFIG, config)
    for old in folder.glob("model*.safetensors*"):
        if old.name not in (*names, *(_INDEX,) * (len(shards) > 1)):
            old.unlink()  # of an earlier save in another number of files


def write_file(path: Path, tensors: Mapping[str, Tensor], read: Callable[[str], Tensor]) -> None:
    """Write a safetensors file of tensors like some on `meta`, each read when it is written."""
    files.write_file(path, tensors, read, {"format": "pt"}, follows=False)


def write_json(path: Path, value: Json) -> None:
    """Write a JSON file."""
    with files.replacing(path, follows=False) as file:
        file.write((json.dumps(value, indent=2, sort_keys=True) + "\n").encode())
