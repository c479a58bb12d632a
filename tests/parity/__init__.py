"""Parity with the peers: every array of a folder of numeric references, against what featx computes.

``python -m tests.parity DIR [--only hf,ops] [--json FILE]`` prints one row per comparison and exits with 1 when a row
fails, when an array was not read, or when a subfolder is of no known kind.
"""
