"""All submissions in loops of numpy.

`python -m helpers.submissions.loops`, run in `tests`, prints what the checker says of the mistakes.
"""

from helpers.submissions import loops_dense, loops_images, loops_norms, loops_sequences
from helpers.submissions.table import rows

FAMILIES = (loops_dense, loops_images, loops_norms, loops_sequences)
WRONG = [s for family in FAMILIES for s in family.WRONG]
RIGHT = [s for family in FAMILIES for s in family.RIGHT]

if __name__ == "__main__":
    print("\n".join(rows(WRONG)))
