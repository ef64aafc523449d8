"""A compiled step is loaded only from where nobody but the user can have put it."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import MSE, begin, run_child, same_number
from helpers.compiling import compiles_in_full, since_2_13

import lincoln_fn as lf
from lincoln_fn.compiler.inductor import disk_cache, settings
from lincoln_fn.compiler.inductor.settings import VARIABLE, is_own_file, problem_of
from lincoln_fn.runtime.on_meta import make_cache_folder, temporary_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
NOTE_ON = disk_cache.note_on


def kept_in_full(test):
    """Mark a test of what is kept on disk."""
    return compiles_in_full(since_2_13(test))


# Each is where it stands in /tmp/theirs/mine: who owns the folders, and their modes.
ME, ROOT, OTHER = 1000, 0, 1001
PLACES = {
    "a folder of one's own": ((ME, 0o755), (ME, 0o700), None),
    "below root's": ((ROOT, 0o755), (ME, 0o700), None),
    "below a sticky one": ((ROOT, 0o1777), (ME, 0o755), None),
    "that others write": ((ME, 0o755), (ME, 0o757), "others can write /above/cache, of mode 757"),
    "that a group writes": ((ME, 0o755), (ME, 0o775), "`chmod go-w /above/cache` mends that"),
    "sticky, but its own": ((ME, 0o755), (ME, 0o1777), "others can write /above/cache"),
    "of another user": ((ME, 0o755), (OTHER, 0o755), "/above/cache belongs to another user, of id"),
    "of root": ((ME, 0o755), (ROOT, 0o755), "/above/cache belongs to another user, of id 0"),
    "below another user's": ((OTHER, 0o755), (ME, 0o700), "/above belongs to another user, of id"),
    "below one that others write": ((ME, 0o777), (ME, 0o700), "others can write /above, of mode"),
}


@pytest.mark.parametrize(("above", "cache", "expected"), PLACES.values(), ids=PLACES)
def test_whose_a_folder_is_and_who_may_write_it(above, cache, expected, monkeypatch):
    owners = {"/": (ROOT, 0o755), "/above": above, "/above/cache": cache}

    def lstat(path):
        owner, mode = owners[str(path)]
        return SimpleNamespace(st_uid=owner, st_mode=0o040000 | mode)

    monkeypatch.setattr(os, "geteuid", lambda: ME)
    monkeypatch.setattr(Path, "lstat", lstat)
    monkeypatch.setattr(Path, "resolve", lambda path: path)
    problem = problem_of(Path("/above/cache"))
    assert (problem is None) == (expected is None)
    assert expected is None or expected in problem


def test_both_ends_of_a_link_are_looked_at(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "shared")
    assert problem_of(tmp_path / "link") is None
    (tmp_path / "shared").chmod(0o777)
    assert f"others can write {tmp_path / 'shared'}" in problem_of(tmp_path / "link")


def test_a_cache_folder_is_made_for_the_user_alone(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "new"))
    before = os.umask(0o002)
    try:
        with settings.use_trusted_cache():
            assert os.environ[VARIABLE] == str(tmp_path / "new")
        assert os.umask(0o002) == 0o002
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_replaced_by_a_temporary_one(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "cache"))
    make = make_cache_folder.__wrapped__  # without its memo
    with pytest.warns(UserWarning, match="not stored on disk, because .*file/cache cannot be made"):
        make()
    assert os.environ[VARIABLE] == temporary_folder().name
    assert problem_of(Path(os.environ[VARIABLE])) is None
    make()  # and nothing is wrong with that one


EAGER = """
import torch, lincoln_fn as lf
from helpers import MSE, begin
x = torch.ones(4, 3)
step, state = begin(lf.serial(lf.dense(2), lf.dense(2)), x, MSE)
step(state, (x, torch.ones(4, 2)))
"""


@pytest.mark.full
def test_an_eager_step_needs_no_cache_folder(tmp_path):
    (tmp_path / "file").touch()
    ran = run_child(EAGER, **{VARIABLE: str(tmp_path / "file" / "cache")})
    assert ran.returncode == 0, ran.stderr
    assert "file/cache cannot be made: Not a directory" in ran.stderr


BATCH = torch.ones(4, 3), torch.ones(4, 2)
STEP, STATE = begin(lf.dense(2), BATCH[0], MSE)


def stepped():
    assert same_number(lf.compile(STEP)(STATE, BATCH)[1], STEP(STATE, BATCH)[1])


# A folder that is not used, its mode, and what is said of it.
UNUSED = {
    "my cache": (0o700, "the path {0} has a space"),
    "shared": (0o777, "others can write {0}, of mode 777; `chmod go-w {0}` mends that"),
}


@compiles_in_full
@pytest.mark.parametrize("name", UNUSED)
def test_a_folder_that_others_write_or_with_a_space_is_not_used(name, tmp_path, monkeypatch):
    folder, (mode, problem) = tmp_path / name, UNUSED[name]
    folder.mkdir()
    folder.chmod(mode)
    monkeypatch.setenv(VARIABLE, str(folder))
    monkeypatch.setattr(disk_cache, "note_on", NOTE_ON)
    with pytest.warns(UserWarning, match="compiled steps are not stored on disk") as told:
        stepped()
    (said,) = (str(warning.message) for warning in told)
    assert problem.format(folder) in said
    assert f"or set {VARIABLE} to a folder of your own" in said
    assert not list(folder.iterdir())
    assert os.environ[VARIABLE] == str(folder)
    assert temporary_folder().name.startswith(tempfile.gettempdir())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Compile the step once, in a cache folder to be copied."""
    folder = tmp_path_factory.mktemp("built") / "cache"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(VARIABLE, str(folder))
        patched.setattr(disk_cache, "note_on", NOTE_ON)
        torch.set_num_threads(1)
        stepped()
    return folder


@pytest.fixture
def kept(built, tmp_path, monkeypatch):
    """Give the note on a step that is kept in a folder of the test's own."""
    folder = shutil.copytree(built, tmp_path / "cache")
    monkeypatch.setenv(VARIABLE, str(folder))
    monkeypatch.setattr(disk_cache, "note_on", NOTE_ON)
    (note,) = (folder / "lincoln_fn").glob("*.json")
    assert disk_cache.find(note) is not None
    return note


def linked(file, elsewhere):
    shutil.move(file, elsewhere)
    file.symlink_to(elsewhere)


@kept_in_full
@pytest.mark.parametrize("suffix", [".so", ".json"])
def test_a_link_out_of_the_folder_is_not_followed(kept, tmp_path, suffix):
    linked(kept.with_suffix(suffix), tmp_path / "elsewhere")
    assert disk_cache.find(kept) is None
    stepped()  # and keeps its library in place of the link
    assert disk_cache.find(kept) is not None
    linked(kept.parent, tmp_path / "folder")
    assert disk_cache.find(kept) is None


@kept_in_full
@pytest.mark.parametrize("suffix", [".so", ".json", "its folder"])
def test_what_others_write_is_not_loaded(kept, suffix):
    place = kept.parent if suffix == "its folder" else kept.with_suffix(suffix)
    place.chmod(0o777)
    assert disk_cache.find(kept) is None
    if place == kept.parent:
        said = f"not stored, because others can write {place}, of mode"
        with pytest.warns(UserWarning, match=said):
            stepped()
    else:
        stepped()
        assert disk_cache.find(kept) is not None
        assert place.stat().st_mode & 0o777 == 0o600


def test_only_a_file_is_a_users_own(tmp_path):
    (tmp_path / "file").write_text("numbers")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "fifo")
    assert is_own_file(tmp_path / "file")
    assert not any(is_own_file(tmp_path / name) for name in ("link", "fifo", "none", ""))


def replaced(file, content):
    """Write a file anew: to shorten a library that is loaded would end the process."""
    file.unlink()
    file.write_bytes(content)


def cut(file, length):
    replaced(file, file.read_bytes()[:length])


def flipped(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    replaced(file, bytes(content))


# What becomes of an entry: of its library, or of its note.
DAMAGES = {
    **{f"cut to {n}": (".so", lambda file, n=n: cut(file, n)) for n in (0, 1, 64, 4096, -4096, -1)},
    **{f"bit of {n}": (".so", lambda file, n=n: flipped(file, n)) for n in (0, 40, 5000, -1)},
    "no library": (".so", lambda file: replaced(file, b"no library at all")),
    "gone": (".so", lambda file: file.unlink()),
    "unreadable": (".so", lambda file: (file.unlink(), file.mkdir())),
    **{
        f"note {text[:20]}": (".json", lambda file, text=text: replaced(file, text.encode()))
        for text in (
            "", "{", "null", "[]", "3", "{}", '{"fates": 3}', '{"fates": null}',
            '{"fates": [[1, false, 0.0, 5]], "sha256": ""}', '{"fates": null, "sha256": "00"}',
            "[" * 100_000,
        )
    },
    "note in bytes": (".json", lambda file: replaced(file, b"\xff\xfe")),
    "note cut": (".json", lambda file: cut(file, -10)),
    "other fates": (
        ".json", lambda file: replaced(file, file.read_bytes().replace(b"null", b"[]"))
    ),
}  # fmt: skip


@kept_in_full
@pytest.mark.parametrize(("suffix", "damage"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_counts_as_missing(kept, suffix, damage):
    file = kept.with_suffix(suffix)
    before = file.read_bytes()
    damage(file)
    assert not file.is_file() or file.read_bytes() != before
    assert disk_cache.find(kept) is None


@kept_in_full
def test_a_folder_that_cannot_be_written_costs_a_warning(kept, monkeypatch):
    kept.unlink()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    made = disk_cache.Graph(disk_cache.Library(kept.with_suffix(".so"), None), None)
    said = "not stored, because .* cannot be written: .*No space left"
    with pytest.warns(UserWarning, match=said):
        disk_cache.keep(kept, made)


@kept_in_full
def test_a_planted_library_does_not_run(kept, tmp_path):
    """The attack of old: a note in a folder that others write, and a library of the attacker's."""
    source, library = tmp_path / "planted.c", kept.with_suffix(".so")
    source.write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n__attribute__((constructor)) static void f(void)"
        f' {{ fclose(fopen("{tmp_path}/ran", "w")); exit(3); }}\n'
    )
    library.unlink()  # which this process has loaded
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    kept.parents[1].chmod(0o777)
    # Without a compiler: what is not found on disk runs as it is.
    ran = run_child(EAGER.replace("step(state", "lf.compile(step)(state"), CXX="/nowhere/g++")
    assert ran.returncode == 0, ran.stderr
    assert not (tmp_path / "ran").exists()
    assert f"others can write {kept.parents[1]}" in ran.stderr
