"""The only place that uses torch's private parts; settings.py has the version that it needs."""
