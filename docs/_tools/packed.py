"""Pack what pages of the site load, which is made when the site is built.

Each file is compressed and becomes a script that says `packed.files["PAGE/NAME"] = "..."`: from the
disk, too, a browser loads scripts, and nothing else. `assets/packed.js` unpacks.

What others made comes from npm, in one version whose hash is known, and not from this repository,
whose every clone would else have 20 MB more. Where there is no npm or network the site is built
without it, and the page says what is missing.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mkdocs.structure.files import File, Files

SECONDS = 600

log = logging.getLogger("mkdocs.hooks.packed")


def folder(page: str) -> str:
    """Name the folder of a page's packed files, in the site."""
    return f"assets/{page}/packed"


def hook(page: str, contents: Callable[[], Iterable[tuple[str, bytes]]]) -> Callable[..., Files]:
    """Make the hook of MkDocs that adds a page's files, given by name, as scripts."""

    def on_files(files: Files, *, config: Any) -> Files:  # Any: MkDocs' own object
        log.info("Making what the page on %s loads", page)
        for name, content in contents():
            text = base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()
            code = f"packed.files[{json.dumps(f'{page}/{name}')}] = {json.dumps(text)};\n"
            files.append(File.generated(config, f"{folder(page)}/{name}.js", content=code))
        return files

    return on_files


def from_npm(package: str, version: str, sha512: str, paths: Sequence[str]) -> Iterator[bytes]:
    """Give files of a package; none without npm or network."""
    npm = shutil.which("npm")
    if npm is None:
        _say_missing(package, "there is no npm")
        return
    with TemporaryDirectory() as place:
        wanted = f"{package}@{version}"
        command = [npm, "pack", wanted, "--prefer-offline", "--pack-destination", place]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            _say_missing(package, f"npm has not found it: {error}")
            return
        (archive,) = Path(place).glob("*.tgz")
        found = hashlib.sha512(archive.read_bytes()).hexdigest()
        if found != sha512:
            raise ValueError(f"expected {wanted} with sha512 {sha512}, got {found}")
        with tarfile.open(archive) as opened:
            members = {member.name: member for member in opened}
            for path in paths:
                member = opened.extractfile(members[path])
                assert member is not None
                yield member.read()


def _say_missing(package: str, why: str) -> None:
    log.info("a page will not run, for it lacks %s: %s", package, why)
