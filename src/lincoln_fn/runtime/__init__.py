"""What belongs to the whole process: threads, memory, the log and the notebook. Not pure."""
