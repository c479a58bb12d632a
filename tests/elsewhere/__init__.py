"""A package of somebody else: an extractor, a task and a kind of model, found by entry point once it is installed.

``tests/test_outside.py`` copies it to a place of its own, where it imports featx alone, and installs it there.
"""
