"""The table of wrong uses, by hand: one row each.

A row is a call, the class of its error, and what its message says; LayerError if no class is given.
"""

from helpers.wrong import data, losses, objects, optimizers, params, values
from lincoln_fn import LayerError

ROWS = {
    f"{family.__name__.rpartition('.')[2]}: {name}": (
        row if isinstance(row[1], type) else (row[0], LayerError, *row[1:])
    )
    for family in (objects, params, losses, optimizers, data, values)
    for name, row in family.ROWS.items()
}
