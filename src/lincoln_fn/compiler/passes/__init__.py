"""Rewrites of a traced graph, one file a rewrite; pipeline.py lists them in order."""
