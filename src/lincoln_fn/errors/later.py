"""Checks that are loaded when first called, not by `import lincoln_fn`: many never are."""

from lincoln_fn.faces import face

face(__name__)
