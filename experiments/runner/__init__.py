"""The runs of a plan, trained one after the other, and their rows."""
