"""The only place that uses torch's private parts; versions.py lists the versions that it knows."""
