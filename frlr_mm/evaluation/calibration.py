"""How far scores are from the frequencies that they claim to be."""

from typing import NamedTuple

import numpy as np


class Bins(NamedTuple):
    """Scores in bins, all float64 (B,); an empty bin has a mean of NaN."""

    counts: np.ndarray
    confidence: np.ndarray
    """The mean score."""
    accuracy: np.ndarray
    """The share that is true."""

    def error(self) -> float:
        """Return the expected calibration error: the mean distance, weighted by the counts."""
        distance = np.nan_to_num(np.abs(self.confidence - self.accuracy))
        return float((self.counts * distance).sum() / self.counts.sum())


def equal_width_bins(score: np.ndarray, is_true: np.ndarray, num_bins: int = 15) -> Bins:
    """Put scores in bins of equal width over [0, 1], each with its upper edge.

    Args:
        score (np.ndarray): Scores (N,), in [0, 1].
        is_true (np.ndarray): Whether what each score is of is true, bool (N,).
        num_bins (int): The number of bins. Defaults to 15.

    Returns:
        Bins: The bins, from low to high.
    """
    edges = np.linspace(0, 1, num_bins + 1)[1:-1]
    return _fill(np.searchsorted(edges, score, side='left'), score, is_true, num_bins)


def equal_mass_bins(score: np.ndarray, is_true: np.ndarray, num_bins: int = 15) -> Bins:
    """Put scores in bins of about as many images each, in the order of the scores.

    Equal scores share a bin, that of their middle one, so that the order of the images does not
    matter.

    Args:
        score (np.ndarray): Scores (N,).
        is_true (np.ndarray): Whether what each score is of is true, bool (N,).
        num_bins (int): The number of bins. Defaults to 15.

    Returns:
        Bins: The bins, from low to high.
    """
    _, group, sizes = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - sizes + (sizes - 1) // 2
    return _fill((middle * num_bins // len(score))[group], score, is_true, num_bins)


def classwise_error(score: np.ndarray, label: np.ndarray, num_bins: int = 15) -> float:
    """Compute the classwise expected calibration error.

    For each class, the scores of all images for it are put in bins of equal width; the error is
    the mean over the classes.

    Args:
        score (np.ndarray): Scores (N, C), in [0, 1].
        label (np.ndarray): Classes (N,), in [0, C).
        num_bins (int): The number of bins. Defaults to 15.

    Returns:
        float: In [0, 1].

    Source: Kull et al., "Beyond temperature scaling: Obtaining well-calibrated multiclass
    probabilities with Dirichlet calibration", NeurIPS 2019.
    """
    errors = [
        equal_width_bins(column, label == i, num_bins).error() for i, column in enumerate(score.T)
    ]
    return float(np.mean(errors))


def brier_score(score: np.ndarray, label: np.ndarray) -> float:
    """Compute the mean, over images, of the squared distances summed over the classes.

    Args:
        score (np.ndarray): Scores (N, C), in [0, 1].
        label (np.ndarray): Classes (N,), in [0, C).

    Returns:
        float: In [0, C]; in [0, 2] where the scores of an image add up to 1.
    """
    squares = np.square(score, dtype=np.float64).sum(1)
    # (p - 1)^2 = p^2 - 2 p + 1 at the right class, p^2 elsewhere
    return float((squares - 2 * _of_label(score, label) + 1).mean())


def negative_log_likelihood(score: np.ndarray, label: np.ndarray) -> float:
    """Compute the mean of -log of the score of the right class, scores being made to add up to 1.

    Those of a softmax do so already. Scores of 0 count as the least number of float32.

    Args:
        score (np.ndarray): Scores (N, C), >= 0.
        label (np.ndarray): Classes (N,), in [0, C).

    Returns:
        float: Nats, >= 0.
    """
    tiny = np.finfo(np.float32).tiny
    total = np.maximum(score.sum(1, dtype=np.float64), tiny)
    return float((np.log(total) - np.log(np.maximum(_of_label(score, label), tiny))).mean())


def binary_cross_entropy(score: np.ndarray, label: np.ndarray) -> float:
    """Compute the negative log-likelihood of C yes-or-no answers, summed over the classes.

    Scores count as at least the least number of float32, and as at most 1 - 6e-8, the next one
    below 1.

    Args:
        score (np.ndarray): Scores (N, C), in [0, 1].
        label (np.ndarray): Classes (N,), in [0, C).

    Returns:
        float: Nats, >= 0, the mean over images.
    """
    info = np.finfo(np.float32)
    negative = -np.log1p(-np.minimum(score.astype(np.float64), 1 - info.epsneg))
    positive = -np.log(np.maximum(_of_label(score, label), info.tiny))
    return float((negative.sum(1) - _of_label(negative, label) + positive).mean())


def _of_label(values: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return what each image has for its class, float64 (N,)."""
    return np.take_along_axis(values, label[:, None], 1)[:, 0].astype(np.float64)


def _fill(index: np.ndarray, score: np.ndarray, is_true: np.ndarray, num_bins: int) -> Bins:
    counts = np.bincount(index, minlength=num_bins).astype(np.float64)
    sums = [np.bincount(index, each, num_bins) for each in (score, is_true)]
    with np.errstate(invalid='ignore'):  # 0 / 0 of an empty bin
        return Bins(counts, sums[0] / counts, sums[1] / counts)
