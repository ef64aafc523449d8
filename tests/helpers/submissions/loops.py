"""All submissions in loops of numpy."""

from helpers.submissions import loops_dense, loops_images, loops_norms, loops_sequences

FAMILIES = (loops_dense, loops_images, loops_norms, loops_sequences)
WRONG = [s for family in FAMILIES for s in family.WRONG]
RIGHT = [s for family in FAMILIES for s in family.RIGHT]
