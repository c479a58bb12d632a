"""Formats of a table with one row per picture, as Hugging Face ``datasets`` reads them."""
