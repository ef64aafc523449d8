"""The public names of a module."""


def names_of(module):
    """Give the public names of a module and their values, also of a room that is loaded by need."""
    names = getattr(module, "__all__", None) or (name for name in vars(module) if name[0] != "_")
    return {name: getattr(module, name) for name in names}
