"""The table of wrong uses, by hand: one row each."""

from helpers.wrong import data, losses, objects, optimizers, params, values

ROWS = {
    f"{family.__name__.rpartition('.')[2]}: {name}": row
    for family in (objects, params, losses, optimizers, data, values)
    for name, row in family.ROWS.items()
}
