"""Formats in LMDB environments, which are read page by page with checks and never mapped."""
