"""What `lf.testing.grade` and assignments are made of."""
