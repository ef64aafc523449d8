"""Build the sdist and the wheel of a commit, twice, and compare them byte for byte.

    python .ci/build.py dist           build into dist/
    python .ci/build.py dist site      the documentation, too, into site/

The commit is checked out into two folders with different names, and the time is the commit's. So
neither a path, nor the time, nor a file that git does not know gets into what is released. The
wheel is built from the sdist.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def check_out(folder: Path) -> None:
    """Write the files of HEAD into a folder."""
    archive = folder.with_suffix(".tar")
    with archive.open("wb") as file:
        subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, stdout=file, check=True)
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")


def build(source: Path, dist: Path, site: Path | None) -> None:
    """Build from a checkout."""
    command = ["git", "log", "-1", "--format=%ct"]
    time = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    environment = {
        **os.environ, "SOURCE_DATE_EPOCH": time.strip(),
        "PYTHONPATH": str(source / "src"), "PYTHONHASHSEED": "0",
    }  # fmt: skip
    commands = [["build", "--outdir", str(dist), "."]]
    if site is not None:
        commands.append(["mkdocs", "build", "--site-dir", str(site)])
    for module in commands:
        subprocess.run([sys.executable, "-m", *module], cwd=source, env=environment, check=True)


def hashes(folder: Path) -> dict[str, str]:
    """Return the hash of each file in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def main() -> None:
    """Build twice, and keep the second if it equals the first."""
    targets = [Path(name) for name in sys.argv[1:3]] or [Path("dist")]
    with tempfile.TemporaryDirectory() as folder:
        made = []
        for name in ("first", "another-second"):
            source = Path(folder, name)
            check_out(source)
            built = [Path(folder, f"{name}-{target.name}") for target in targets]
            build(source, built[0], built[1] if len(built) > 1 else None)
            made.append(built)
        for first, second, target in zip(*made, targets, strict=True):
            one, other = hashes(first), hashes(second)
            differing = sorted(k for k in one.keys() | other.keys() if one.get(k) != other.get(k))
            if differing:
                sys.exit(f"two builds of {target} differ in {differing}")
            shutil.copytree(second, target, dirs_exist_ok=True)
            print(f"{target}: {len(one)} files, twice the same")
            if target == targets[0]:
                print(*(f"{digest}  {name}" for name, digest in one.items()), sep="\n")


if __name__ == "__main__":
    main()
