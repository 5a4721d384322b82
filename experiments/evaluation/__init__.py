"""Weights in use: predictions on images, and errors on any split of any data set."""
