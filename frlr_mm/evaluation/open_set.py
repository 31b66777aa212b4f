"""How well a score tells images of known classes from others, and right predictions from wrong."""

import math

import numpy as np
from torch import from_numpy

from .multi_label import average_precision


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Compute the probability that a known image has a higher score than an unknown one.

    That is the area under the ROC curve; a tie counts half.

    Args:
        known (np.ndarray): Scores of images of known classes (K,), at least one.
        unknown (np.ndarray): Scores of images of unknown classes (U,), at least one.

    Returns:
        float: In [0, 1]; 0.5 where the score tells nothing.
    """
    return float(_share_above(known, unknown).mean())


def fpr_at_tpr(positive: np.ndarray, negative: np.ndarray, tpr: float = 0.95) -> float:
    """Compute the share of negatives that is accepted where ``tpr`` of the positives is.

    The threshold is the largest one at which at least ``tpr`` of the positives have a score that
    reaches it.

    Args:
        positive (np.ndarray): Scores of what is to be accepted (P,), at least one.
        negative (np.ndarray): Scores of what is to be rejected (M,), at least one.
        tpr (float): The share of positives to accept, in (0, 1]. Defaults to 0.95.

    Returns:
        float: In [0, 1].
    """
    return float((negative >= threshold_at(positive, tpr)).mean())


def threshold_at(score: np.ndarray, share: float) -> float:
    """Return the largest threshold that at least a share of the scores reaches.

    Args:
        score (np.ndarray): Scores (N,), at least one.
        share (float): The share, in (0, 1].

    Returns:
        float: One of the scores.
    """
    # Rounded first: 0.95 * 20 may be a little more than 19.
    needed = max(1, math.ceil(round(share * len(score), 9)))
    return float(np.sort(score)[-needed])


def aupr(positive: np.ndarray, negative: np.ndarray) -> float:
    """Compute the average precision of the positives, the area under the precision-recall curve.

    Args:
        positive (np.ndarray): Scores of what is to be found (P,), at least one.
        negative (np.ndarray): Scores of the rest (M,).

    Returns:
        float: In [0, 1].
    """
    score = np.concatenate([positive, negative])
    target = np.arange(len(score)) < len(positive)
    return average_precision(from_numpy(score)[:, None], from_numpy(target)[:, None].int()).item()


def oscr(known: np.ndarray, is_correct: np.ndarray, unknown: np.ndarray) -> float:
    """Compute the area under the open-set classification rate curve (OSCR).

    The curve shows the share of known images that are accepted and rightly classified against the
    share of unknown images that are accepted, over all thresholds.

    Args:
        known (np.ndarray): Scores of images of known classes (K,), at least one.
        is_correct (np.ndarray): Whether each is rightly classified, bool (K,).
        unknown (np.ndarray): Scores of images of unknown classes (U,), at least one.

    Returns:
        float: In [0, 1], at most the accuracy.

    Source: Dhamija, Günther, Boult, "Reducing Network Agnostophobia", NeurIPS 2018.
    """
    return float((is_correct * _share_above(known, unknown)).mean())


def aurc(score: np.ndarray, is_correct: np.ndarray) -> float:
    """Compute the area under the risk-coverage curve (AURC).

    It is the mean, over n from 1 to N, of the share of errors among the n images with the highest
    scores. Images of one score share their errors evenly, so that their order does not matter.

    Args:
        score (np.ndarray): Scores (N,), at least one.
        is_correct (np.ndarray): Whether each image is rightly classified, bool (N,).

    Returns:
        float: In [0, 1]; the less, the better.

    Source: Geifman, Uziel, El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural
    Classifiers", ICLR 2019.
    """
    _, group, sizes = np.unique(-score, return_inverse=True, return_counts=True)
    errors = np.bincount(group, ~is_correct) / sizes  # of each score, the highest first
    risk = np.cumsum(np.repeat(errors, sizes)) / np.arange(1, len(score) + 1)
    return float(risk.mean())


def _share_above(known: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Return the share of the unknown images that each known one is above, float64 (K,)."""
    unknown = np.sort(unknown)
    below, up_to = (np.searchsorted(unknown, known, side) for side in ('left', 'right'))
    return (below + up_to) / (2 * len(unknown))  # a tie counts half
