"""The page of a course in the documentation, written from its table."""

from __future__ import annotations

from lincoln_fn.grading.courses.course import Course


def page(course: Course) -> str:
    """Write a course's page, in Markdown.

    Args:
        course: as its table says it.

    Returns:
        The page: the calls of each exercise, its gradients, and what its output should be.
    """
    command = f"python -m lincoln_fn.testing.grade {course.name}"
    lines = [
        f"# {course.title}",
        "",
        f"`{command} FILE ...` grades files as the course has them:",
        "see [files of a course](../guides/courses.md). These are the exercises, with the calls",
        "that are made, and what the output is held against, in torch.",
        "",
    ]
    for exercise in course.exercises:
        gradients = ", ".join(f"`d{array}`" for array in exercise.arrays)
        lines += [
            f"## {exercise.name}",
            "",
            "```output",
            *f"{exercise.forward}; {exercise.backward}".split("; "),
            "```",
            "",
            f"Graded: {gradients}, in {_count(len(exercise.cases))}.",
        ]
        references = exercise.reference.strip().splitlines()
        if references:
            said = " or ".join(f"`{line}`" for line in references)
            lines[-1] += f" The output should be {said}."
        lines.append("")
    return "\n".join(lines)


def _count(cases: int) -> str:
    return "1 case" if cases == 1 else f"{cases} cases"
