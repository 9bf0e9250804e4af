"""Committed rows of a running worker for readers outside of it, and which worker owns them."""
