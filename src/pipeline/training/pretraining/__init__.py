"""Pretraining without labels: weights that a classifier starts from, learned from images alone."""
