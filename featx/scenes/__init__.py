"""Drawn pictures with boxes, questions, answers and captions: a data set of every layout, made on the spot."""

from featx.scenes.drawing import write_scenes
from featx.scenes.plan import Plan

__all__ = ["Plan", "write_scenes"]
