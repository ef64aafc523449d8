"""What several files of this room need."""
