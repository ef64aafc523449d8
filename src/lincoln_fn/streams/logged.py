"""Write a log: as CSV or JSON lines, or event files for TensorBoard. Show the progress of a run."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, TextIO, TypeAlias

import attrs

from lincoln_fn.core import OR_INFINITE, NonNegative, NonNegativeInt, PositiveInt, checked
from lincoln_fn.streams.stream import Stream, closing
from lincoln_fn.training import LINE_SECONDS, StepRecord, TrainState, display

# Numbers to write, or as they were read: CSV contains text.
_Row: TypeAlias = Mapping[str, float | str]
_Columns: TypeAlias = dict[str, None]  # a set in order
_NUMBERS: Final = ("step", "loss")


@checked
def logged(
    stream: Stream, path: str | os.PathLike[str], *, every: PositiveInt = 1
) -> Iterator[tuple[TrainState, StepRecord]]:
    """Write the numbers of steps to a file: step, loss, and the scores that a step has.

    Each line is written before the step is yielded, so a run that is killed leaves complete lines.
    A resumed run continues the file: lines of its first step and later ones are removed, and so is
    an incomplete last line. So each step is there once, as if the run had never stopped, if
    `checkpoint.every` goes around this stream. A new run starts a new file.

    Numbers are written so that reading gives the same bits. JSON has no `nan` and no infinities:
    they are the strings "NaN", "Infinity" and "-Infinity", which `float` reads.

    Args:
        path: a file that ends in .csv (one column per number, empty where a step lacks a score) or
            .jsonl (one object per line); its folder is made if it does not exist.
        every: write each step that is a multiple of it, and each step that has scores.

    Raises:
        ValueError: if the path has another ending; from the stream, if the file is no such log.

    Example:
        >>> import tempfile
        >>> steps = [(None, StepRecord(1, 0.5)), (None, StepRecord(2, 0.25, scores={"f1": 0.9}))]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = list(logged(steps, f"{folder}/log.jsonl"))
        ...     print(Path(f"{folder}/log.jsonl").read_text(), end="")
        {"step": 1, "loss": 0.5}
        {"step": 2, "loss": 0.25, "f1": 0.9}
    """
    log = Path(path)
    if log.suffix not in _FORMATS:
        raise ValueError(f"logged: expected a path that ends in .csv or .jsonl, got {path}")

    def logging() -> Iterator[tuple[TrainState, StepRecord]]:
        line = _FORMATS[log.suffix].line
        columns: _Columns = {}
        file: BinaryIO | None = None
        with closing("logged", stream) as steps, ExitStack() as files:
            for state, record in steps:
                scores = record.scores
                if file is None or (scores and not scores.keys() <= columns.keys()):
                    files.close()
                    columns = _begin(log, record)
                    file = files.enter_context(log.open("ab"))
                if scores or record.step % every == 0:
                    row = {"step": record.step, "loss": record.loss, **scores}
                    file.write(line(row, columns).encode())
                    file.flush()
                yield state, record

    return logging()


def _begin(path: Path, record: StepRecord) -> _Columns:
    """Rewrite a log up to a step, with columns for that step's scores, too."""
    written = _FORMATS[path.suffix]
    kept = [row for row in _read(path) if int(row["step"]) < record.step]
    columns = dict.fromkeys(name for row in (_NUMBERS, *kept, record.scores) for name in row)
    lines = [written.head(columns), *(written.line(row, columns) for row in kept)]
    path.parent.mkdir(parents=True, exist_ok=True)
    # By a rename, so that a run killed at this point leaves the old log or the new one.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes("".join(lines).encode())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return columns


def _read(path: Path) -> list[_Row]:
    if not path.exists():
        return []
    try:
        text = path.read_bytes().decode()
        whole = text[: text.rfind("\n") + 1]
        if text and not whole:
            raise ValueError("it has no whole line")
        rows = list(_FORMATS[path.suffix].rows(whole))
        for row in rows:
            int(row["step"])
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        problem = f"expected {path} to be a log that this function wrote, or no file"
        raise ValueError(f"logged: {problem}; {type(error).__name__}: {error}") from error
    return rows


@attrs.frozen
class _Format:
    rows: Callable[[str], Iterator[_Row]]
    head: Callable[[_Columns], str]
    line: Callable[[_Row, _Columns], str]


def _csv_rows(text: str) -> Iterator[_Row]:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    names = next(lines, list(_NUMBERS))
    if tuple(names[:2]) != _NUMBERS:
        raise ValueError(f"its first line is {','.join(names)!r}")
    for cells in lines:
        yield {name: cell for name, cell in zip(names, cells, strict=True) if cell}


def _csv_line(cells: Iterable[float | str]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _in_json(value: float | str) -> float | str:
    return value if isinstance(value, str) or math.isfinite(value) else json.dumps(value)


_FORMATS: Final = {
    ".csv": _Format(
        _csv_rows,
        head=_csv_line,
        line=lambda row, columns: _csv_line(row.get(name, "") for name in columns),
    ),
    ".jsonl": _Format(
        lambda text: map(json.loads, text.splitlines()),
        head=lambda columns: "",
        line=lambda row, columns: json.dumps({n: _in_json(v) for n, v in row.items()}) + "\n",
    ),
}


@checked
def tensorboard(
    stream: Stream, folder: str | os.PathLike[str], *, every: PositiveInt = 1
) -> Iterator[tuple[TrainState, StepRecord]]:
    """Write losses and scores to an event file, by torch's `SummaryWriter`.

    The file is made at the first step. For that step and later ones, TensorBoard ignores earlier
    files in the folder. So a resumed run looks like one that was not stopped.

    Args:
        folder: where the event file goes; made if it does not exist.
        every: write the loss of each step that is a multiple of it; scores are always written.

    Example:
        >>> steps = tensorboard([], "runs/digits")  # doctest: +SKIP
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        mend = "pip install 'lincoln_fn[tensorboard]'"
        raise ImportError(f"tensorboard: expected the package tensorboard; {mend}") from error

    def writing() -> Iterator[tuple[TrainState, StepRecord]]:
        writer: Any = None  # Any: torch gives it no types
        with closing("tensorboard", stream) as steps:
            try:
                for state, record in steps:
                    if writer is None:
                        writer = SummaryWriter(str(folder), purge_step=record.step, flush_secs=10)
                    if record.scores or record.step % every == 0:
                        for name, value in {"loss": record.loss, **record.scores}.items():
                            writer.add_scalar(name, value, record.step)
                    yield state, record
            finally:
                if writer is not None:
                    writer.close()

    return writing()


@checked
def progress(
    stream: Stream,
    *,
    total: NonNegativeInt | None = None,
    seconds: Annotated[NonNegative, OR_INFINITE] = LINE_SECONDS,
    file: TextIO | None = None,
) -> Iterator[tuple[TrainState, StepRecord]]:
    """Show steps, time left, mean loss, the latest scores and examples per second.

    On a terminal and in a notebook, that is a bar; a notebook with ipywidgets has tqdm's bar of
    widgets. Elsewhere a plain line is written at intervals, and at the end.

    Args:
        total: the number of steps to come, such as `len(batches)`; None if it is not known.
        seconds: between two plain lines, at least 0. The loss is the mean since the last line.
        file: where to write; None is standard error, and in a notebook the cell's output.

    Example:
        >>> list(progress([], total=0))
        []
    """
    with closing("progress", stream) as steps, display(total, seconds=seconds, file=file) as show:
        for state, record in steps:
            show.step(record)
            yield state, record
