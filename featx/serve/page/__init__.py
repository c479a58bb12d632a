"""The page: one file that browses the stores of a server, and asks its models."""

from featx.serve.page.page import page_extension

__all__ = ["page_extension"]
