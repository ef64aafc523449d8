"""The only place that uses Inductor, torch's private part; settings.py has the version it needs."""
