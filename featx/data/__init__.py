"""Data sets: questions and captions about pictures in a store, and the answers a model chooses from."""

from featx.data.answers import AnswerSpace
from featx.data.question import Caption, Question
from featx.data.read import FORMATS, read_captions, read_questions
from featx.data.splits import read_pictures, split_by_pictures
from featx.metrics.normalise import convert_answer

__all__ = [
    "FORMATS",
    "AnswerSpace",
    "Caption",
    "Question",
    "convert_answer",
    "read_captions",
    "read_pictures",
    "read_questions",
    "split_by_pictures",
]
