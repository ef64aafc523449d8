"""Print the oldest releases that pyproject.toml admits, as requirements for pip.

They stand there once, behind `>=`, and are what `.ci/run` installs to try them.
"""

import re
from pathlib import Path


def floors(pyproject: str) -> list[str]:
    """List the lower bounds of the dependencies, such as "torch==2.9"."""
    block = re.search(r"^dependencies = \[$(.*?)^\]$", pyproject, re.MULTILINE | re.DOTALL)
    assert block, "pyproject.toml has no list of dependencies"
    required = re.findall(r'^ *"(.*?)"', block[1], re.MULTILINE)
    found = [re.fullmatch(r"([\w-]+)>=([\d.]+)", one) for one in required]
    assert required, "no dependencies"
    assert all(found), f"each dependency needs a floor: {required}"
    return [f"{one[1]}=={one[2]}" for one in found if one]


if __name__ == "__main__":
    print(*floors(Path(__file__).parents[1].joinpath("pyproject.toml").read_text()))
