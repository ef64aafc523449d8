"""What stands in a checkpoint's place: told apart, named, never waited for, never replaced."""

import errno
import faulthandler
import os
import resource
import socket
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from helpers import assert_says, same_bits
from helpers.checkpoints import name, refused, state_at

import lincoln_fn as lf
from lincoln_fn import checkpoint
from lincoln_fn.checkpoint import CheckpointError, Directory, access

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kinds of files are those of POSIX")

LIKE, STATE, NAME = state_at(0), state_at(7), name(7)


@pytest.fixture(autouse=True)
def no_hang(tmp_path_factory):
    """End the process if a test hangs, perhaps where no signal gets through."""
    with (tmp_path_factory.mktemp("hang") / "traceback").open("w") as file:
        faulthandler.dump_traceback_later(60, exit=True, file=file)
        yield
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def as_nobody():
    """Be without the rights of root, if this process has them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """Make a folder that nobody owns, where everyone can go: pytest's are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, 65534, -1)
        yield folder
        folder.chmod(0o700)


def bind(path):
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket may not be long
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def loop(path):
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)


KINDS = {
    "directory": (Path.mkdir, "it is a directory"),
    "FIFO": (os.mkfifo, "it is a FIFO"),
    "socket": (bind, "it is a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "terminal": (lambda path: path.symlink_to("/dev/ptmx"), "it is a device"),
    "link to a FIFO": (
        lambda path: [os.mkfifo(path.with_name("fifo")), path.symlink_to("fifo")], "it is a FIFO",
    ),
    "loop": (loop, "cannot be opened: it is a loop of symbolic links"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "words"), KINDS.values(), ids=KINDS)
def test_what_is_no_file_is_named_and_stays(make, words, tmp_path):
    path, directory = tmp_path / NAME, Directory(tmp_path)
    make(path)
    before = path.lstat()
    problem = words if words.startswith("cannot") else f"cannot be read: {words}"
    of_save = problem.replace("read", "written")
    for call, expected in (
        (lambda: checkpoint.load(path, LIKE), problem),
        (lambda: checkpoint.file.score_of(path), problem),
        (lambda: checkpoint.save(path, STATE), of_save),
        (lambda: directory.save(STATE, score=1.0), of_save),
    ):
        refusal = refused(call)
        assert (refusal.path, refusal.problem) == (path, expected)
    with pytest.raises(CheckpointError, match="no checkpoint can be loaded\n.*" + words):
        directory.latest(LIKE)
    assert directory.best(LIKE) is None
    after = path.lstat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_passed_over_and_not_removed(kind, tmp_path):
    directory = Directory(tmp_path, keep_last=1, keep_best=0)
    KINDS[kind][0](tmp_path / name(9))
    (tmp_path / ".step_000000009.safetensors.0123abcd.tmp").mkdir()
    there = set(os.listdir(tmp_path))
    directory.save(STATE)
    directory.save(state_at(8))
    assert set(os.listdir(tmp_path)) == {name(8), *there}
    with pytest.warns(UserWarning, match="passed over a checkpoint"):
        assert int(directory.latest(LIKE).step) == 8


def test_a_device_is_not_even_opened(tmp_path, monkeypatch):
    path, opened = tmp_path / NAME, []
    path.symlink_to("/dev/null")
    monkeypatch.setattr(os, "open", lambda name, *_: opened.append(name))
    assert_says("CheckpointError: cannot be read: it is a device", checkpoint.load, path, LIKE)
    monkeypatch.undo()
    assert opened == []


def test_a_fifo_that_comes_between_two_looks_is_not_waited_for(tmp_path, monkeypatch):
    path, check, looks = tmp_path / NAME, access._check_kind, []
    os.mkfifo(path)

    def second_look(status, done):
        looks.append(status)
        return None if len(looks) == 1 else check(status, done)

    monkeypatch.setattr(access, "_check_kind", second_look)
    assert refused(checkpoint.load, path, LIKE).problem == "cannot be read: it is a FIFO"
    assert len(looks) == 2


def test_no_file_is_told_from_a_link_to_none(tmp_path):
    path = tmp_path / NAME
    assert refused(checkpoint.load, path / "below", LIKE).problem == "no such file"
    path.symlink_to("nowhere")
    refusal = refused(checkpoint.load, path, LIKE)
    assert refusal.problem == "no such file: the symbolic link leads to nowhere"
    path.unlink()
    path.touch()
    assert refused(checkpoint.load, path / "below", LIKE).problem == "no such file"


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_file_can_have(name, tmp_path):
    for call in (
        lambda: checkpoint.load(tmp_path / name, LIKE),
        lambda: checkpoint.save(tmp_path / name, STATE),
    ):
        assert refused(call).problem == f"expected a name that a file can have, got {name!r}"


def test_a_name_that_is_too_long(tmp_path):
    path, words = tmp_path / ("a" * 300), os.strerror(errno.ENAMETOOLONG)
    assert refused(checkpoint.load, path, LIKE).problem == f"cannot be read: {words}"
    with pytest.raises(OSError, match=words):
        checkpoint.save(path, STATE)


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "caf\udce9", "a\nb"])
def test_a_name_that_a_file_can_have(name, tmp_path):
    checkpoint.save(tmp_path / name, STATE)
    assert same_bits(checkpoint.load(tmp_path / name, LIKE).params[0], STATE.params[0])
    assert os.listdir(tmp_path) == [name]


def test_an_unreadable_file_is_named(open_folder):
    path, directory = open_folder / NAME, Directory(open_folder, keep_last=1)
    with as_nobody():
        directory.save(STATE)
        path.chmod(0)
        assert refused(checkpoint.load, path, LIKE).problem == "cannot be opened: permission denied"
        assert_says("CheckpointError: permission denied", directory.latest, LIKE)
        assert directory.best(LIKE) is None
        directory.save(state_at(8))
        with pytest.warns(UserWarning, match=r"renamed to .+\.aside, .+ permission denied"):
            directory.save(STATE)
    assert len(list(open_folder.glob(f"{NAME}.*.aside"))) == 1


def test_a_folder_that_cannot_be_listed_is_no_new_run(open_folder):
    folder = open_folder / "run"
    with as_nobody():
        folder.mkdir(mode=0)
        refusal = refused(lambda: Directory(folder).latest(LIKE))
        assert str(refusal) == f"{folder}: cannot be listed: Permission denied"
    (open_folder / "file").touch()
    refusal = refused(lambda: Directory(open_folder / "file").best(LIKE))
    assert refusal.problem == "cannot be listed: Not a directory"


def test_a_read_only_folder_stays_as_it_is(open_folder):
    path = open_folder / NAME
    with as_nobody():
        checkpoint.save(path, STATE)
        before = path.read_bytes()
        open_folder.chmod(0o555)
        for save in (
            lambda: checkpoint.save(path, LIKE),
            lambda: Directory(open_folder).save(LIKE),
        ):
            with pytest.raises(PermissionError):
                save()
        assert os.listdir(open_folder) == [NAME]
        assert path.read_bytes() == before
        assert int(Directory(open_folder).latest(LIKE).step) == 7


def test_a_folder_that_cannot_be_written_is_told_before_the_first_step(open_folder):
    steps = iter([(STATE, lf.StepRecord(7, 0.5))])
    with as_nobody():
        open_folder.chmod(0o555)
        for folder in (open_folder, open_folder / "runs" / "first"):
            refusal = refused(next, checkpoint.every(steps, Directory(folder), steps=100))
            assert str(refusal) == f"{folder}: cannot be written: Permission denied"
    assert len(list(steps)) == 1


def test_a_disk_that_fills_leaves_the_old_file(tmp_path):
    directory = Directory(tmp_path)
    large = lf.TrainState((torch.ones(2**20),), (), lf.Key(0), torch.tensor(8))
    directory.save(STATE)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**21, limit[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            directory.save(large)
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            checkpoint.save(tmp_path / NAME, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert os.listdir(tmp_path) == [NAME]
    assert same_bits(directory.latest(LIKE).params[0], STATE.params[0])
    assert directory.save(large).stat().st_size > 2**22


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o444, 0o400])
def test_a_save_keeps_the_mode(mode, tmp_path):
    path = tmp_path / NAME
    checkpoint.save(path, LIKE)
    path.chmod(mode)
    checkpoint.save(path, STATE)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert same_bits(checkpoint.load(path, LIKE).params[0], STATE.params[0])


def test_a_secret_is_at_no_time_readable_by_others(tmp_path, monkeypatch):
    path, modes = tmp_path / NAME, []
    checkpoint.save(path, LIKE)
    path.chmod(0o600)
    opened = os.open

    def watched(name, flags, *mode):
        number = opened(name, flags, *mode)
        if flags & os.O_CREAT:
            modes.append(stat.S_IMODE(os.fstat(number).st_mode))
        return number

    monkeypatch.setattr(os, "open", watched)
    checkpoint.save(path, STATE)
    assert modes == [0o600]


def test_a_symbolic_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    target, link, chain = tmp_path / "far" / "real", tmp_path / "link", tmp_path / "chain"
    link.symlink_to("far/real")
    chain.symlink_to(link)
    checkpoint.save(link, LIKE)  # and made, if it is not there
    assert target.is_file()
    target.chmod(0o600)
    old = target.open("rb")
    checkpoint.save(chain, STATE)
    assert os.readlink(link) == "far/real"
    assert os.readlink(chain) == str(link)
    assert not target.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert same_bits(checkpoint.load(target, LIKE).params[0], STATE.params[0])
    assert os.listdir(target.parent) == ["real"]
    with old:  # the file was replaced, not written over
        assert os.fstat(old.fileno()).st_ino != target.stat().st_ino


def test_a_link_in_a_directory_is_written_through_and_not_removed(tmp_path):
    folder, target = tmp_path / "run", tmp_path / "real"
    directory = Directory(folder, keep_last=1, keep_best=0)
    folder.mkdir()
    (folder / NAME).symlink_to(target)
    directory.save(STATE)
    directory.save(state_at(8))
    assert sorted(os.listdir(folder)) == [NAME, name(8)]
    assert int(checkpoint.load(target, LIKE).step) == 7


@pytest.mark.parametrize("size", [0, 4, 100, 700, -8, -1])
def test_a_file_that_is_cut_short_while_it_is_read(size, tmp_path, monkeypatch):
    path = tmp_path / NAME
    tree = {"a": torch.ones(1000), "b": torch.ones(3, 2**19)}
    checkpoint.save(path, tree)
    size = size % path.stat().st_size

    read = access.os.fstat

    def cut(number):
        status = read(number)
        os.truncate(path, size)
        return status

    monkeypatch.setattr(access.os, "fstat", cut)
    with pytest.raises(CheckpointError, match=r"became shorter while it was read|as safetensors"):
        checkpoint.load(path, tree)


def test_an_error_of_the_disk_is_named(tmp_path, monkeypatch):
    path = tmp_path / NAME
    checkpoint.save(path, STATE)

    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("lincoln_fn.checkpoint.contents.read_bytes", broken)
    refusal = refused(checkpoint.load, path, LIKE)
    assert refusal.problem == f"cannot be read: {os.strerror(errno.EIO)}"
