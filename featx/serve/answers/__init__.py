"""Answers to questions about pictures: ``POST /v1/answer``, ``GET /v1/models``.

==============  ====================================================================================
``asked``       what a request asks, checked; ``uploads`` reads its body up to the limits
``models``      which models there are and which is meant; loaded when first asked
``batcher``     questions of a few milliseconds in one call, by one thread, with room for so many
``single``      what many want at the same time is made once
``extraction``  pictures without a record; ``memory`` and ``side`` keep what was made
``replies``     answers, and by ``occlusion`` which regions mattered
``service``     a question from beginning to end; ``route`` its HTTP, ``contract`` its OpenAPI
==============  ====================================================================================

Imports go one way: asked, batcher, single, memory, models, contract < occlusion, extraction, uploads < replies, side <
service < route. torch is imported with the first question.
"""

from __future__ import annotations

from featx.serve.answers.models import ModelSpec, read_model
from featx.serve.answers.route import answers_extension
from featx.serve.answers.service import Limits

__all__ = ["Limits", "ModelSpec", "answers_extension", "read_model"]
