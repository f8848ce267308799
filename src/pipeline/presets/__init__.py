"""Recipes for published figures, and how one is written into params.yaml."""
