"""Experiments as data: `base.py` names every field, the other files change what differs."""
