"""Formats of a folder with one file, or a few, per picture: ``pictures`` is what they have in common."""
