"""Formats that hold every array of every picture under a name: safetensors and WebDataset."""
