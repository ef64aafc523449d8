"""Imports of a stranger's modules from their sources, whatever compiled code lies beside them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import PathEntryFinder
from importlib.machinery import FileFinder, SourceFileLoader
from pathlib import Path
from types import CodeType


class SourceOnly(SourceFileLoader):
    """Loads a module from its source, and reads and writes no compiled code."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def import_sources_alone(folders: Sequence[Path]) -> None:
    """Let all imports from these folders be of sources; it changes the process."""
    # Python's own and installed modules may lie below a folder of a student: a home, say.
    libraries = [
        path for path in map(Path, sys.path) if any(folder in path.parents for folder in folders)
    ]
    of_sources = FileFinder.path_hook((SourceOnly, [".py"]))

    def find(entry: str) -> PathEntryFinder:
        above = {Path(entry), *Path(entry).parents}
        if above.isdisjoint(folders) or not above.isdisjoint(libraries):
            raise ImportError
        return of_sources(entry)

    sys.path_hooks.insert(0, find)
    sys.path_importer_cache.clear()
