"""Rewrites of a traced graph, one file a rewrite; graphs.py lists them in order."""
