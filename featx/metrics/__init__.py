"""How good answers are: the official accuracies, by the rules with which published figures were computed."""

from featx.metrics.exact import score_gqa, score_labels
from featx.metrics.normalise import normalise_answer
from featx.metrics.score import METRICS, accuracy, score
from featx.metrics.vizwiz import score_answerability, score_vizwiz, vizwiz_accuracy
from featx.metrics.vqa import score_soft, score_vqa, soft_scores, vqa_accuracy

__all__ = [
    "METRICS",
    "accuracy",
    "normalise_answer",
    "score",
    "score_answerability",
    "score_gqa",
    "score_labels",
    "score_soft",
    "score_vizwiz",
    "score_vqa",
    "soft_scores",
    "vizwiz_accuracy",
    "vqa_accuracy",
]
