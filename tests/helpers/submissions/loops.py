"""All submissions in loops of numpy, and their figures.

`python -m helpers.submissions.loops`, run in `tests`, prints the table and the figures.
"""

import time

from helpers.submissions import loops_dense, loops_images, loops_norms, loops_sequences
from helpers.submissions.table import rows, said

FAMILIES = (loops_dense, loops_images, loops_norms, loops_sequences)
WRONG = [s for family in FAMILIES for s in family.WRONG]
RIGHT = [s for family in FAMILIES for s in family.RIGHT]


def figures() -> tuple[int, int, list[float]]:
    """Count the wrong ones with names and the right ones with alarms, and time each in seconds."""
    seconds, named, alarms = [], 0, 0
    for submission in WRONG:
        start = time.process_time()
        named += bool(said(submission)[0])
        seconds.append(time.process_time() - start)
    for submission in RIGHT:
        start = time.process_time()
        report = submission.report()
        alarms += not report.is_right or bool(report.remarks)
        seconds.append(time.process_time() - start)
    return named, alarms, sorted(seconds)


if __name__ == "__main__":
    named, alarms, seconds = figures()
    print("\n".join(rows(WRONG)))
    print(f"{named} of {len(WRONG)} named, {alarms} alarms of {len(RIGHT)}", end="; ")
    print(f"seconds: median {seconds[len(seconds) // 2]:.3f}, largest {seconds[-1]:.2f}")
