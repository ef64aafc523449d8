"""What `mutate.py` changes, and how."""
