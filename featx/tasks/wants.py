"""What a trained model says about the stores it can read: :func:`featx.wants.wants_of`."""

from featx.wants import FIELDS, wants_of

__all__ = ["FIELDS", "wants_of"]
