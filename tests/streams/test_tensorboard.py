"""TensorBoard reads what was written, and a resumed run as one."""

import builtins

import pytest

import lincoln_fn as lf
from lincoln_fn.streams import tensorboard


def run(folder, first, last, *, every=1):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    steps = (
        (None, lf.StepRecord(step, step / 8, scores={"f1": step / 16} if step % 3 == 0 else {}))
        for step in range(first, last + 1)
    )
    return list(tensorboard(steps, folder, every=every))


def read(folder):
    """Read event files as TensorBoard does: by name, the steps and their values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


@pytest.mark.parametrize(("every", "steps"), [(1, range(1, 9)), (4, (3, 4, 6, 8))])
def test_multiples_and_scores_are_read_back(every, steps, tmp_path):
    run(tmp_path, 1, 8, every=every)
    assert read(tmp_path) == {
        "loss": [(step, step / 8) for step in steps], "f1": [(3, 3 / 16), (6, 6 / 16)]
    }  # fmt: skip


def test_a_run_that_was_resumed_reads_as_one(tmp_path):
    run(tmp_path, 1, 6)
    (first,) = tmp_path.iterdir()
    first.rename(tmp_path / "events.out.tfevents.0000000001.earlier")  # files are read by name
    run(tmp_path, 5, 9)
    assert [step for step, _ in read(tmp_path)["loss"]] == list(range(1, 10))
    assert [step for step, _ in read(tmp_path)["f1"]] == [3, 6, 9]


def test_what_was_written_stays_when_the_run_fails(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")

    def failing():
        yield None, lf.StepRecord(1, 0.5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(tensorboard(failing(), tmp_path))
    assert read(tmp_path) == {"loss": [(1, 0.5)]}


def test_a_missing_package_is_named_at_the_call(tmp_path, monkeypatch):
    imported = builtins.__import__

    def without(name, *arguments, **options):
        if name == "torch.utils.tensorboard":
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return imported(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    message = r"^tensorboard: expected the package tensorboard; pip install 'lincoln_fn\[tensorboa"
    with pytest.raises(ImportError, match=message):
        tensorboard([], tmp_path)
