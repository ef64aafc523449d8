from lincoln_fn.checkpoint.directory import Directory as Directory, every as every
from lincoln_fn.checkpoint.file import (
    CheckpointError as CheckpointError, VERSION as VERSION, load as load, save as save,
)
