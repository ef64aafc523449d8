"""Perturb the processes that perturbed tests start: Python imports this module when it starts."""

import os

if os.environ.get("LINCOLN_FN_PERTURBED"):
    import perturbed  # noqa: F401
