"""Courses whose exercises are graded as they are: `*.ini`, a table of names and arguments each."""
