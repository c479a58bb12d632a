"""Formats in HDF5 files, and a reader of ours for those that the library refuses: ``file`` chooses between the two."""
