"""Choose the score below which an image is of none of the classes."""

import argparse

import numpy as np

from ..engine.launch import one_line_errors
from ..engine.predict import predict_logits
from ..evaluation.open_set import threshold_at
from ..models.classifiers.logistic_classifier import LogisticClassifier, predicts_by_softmax
from ..reporting.tables import markdown_table
from ._checkpoint import add_arguments, add_split, build_loader, load


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Choose `reject_below` of a LogisticClassifier on a validation set. Images '
        'of unknown classes, whose label is below 0, count as errors where they are accepted.'
    )
    add_arguments(parser)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument(
        '--accept', type=float, metavar='SHARE', help='the share of known images to accept'
    )
    wanted.add_argument(
        '--error', type=float, metavar='SHARE', help='the largest share of errors among accepted'
    )
    add_split(parser)
    args = parser.parse_args(argv)
    for name in ('accept', 'error'):
        value = getattr(args, name)
        if value is not None and not 0 < value <= 1:
            parser.error(f'expected --{name} to be in (0, 1], but got {value}')
    return args


def limit_errors(score: np.ndarray, is_correct: np.ndarray, share: float) -> float:
    """Return the least threshold with at most a share of errors among the images that reach it.

    Args:
        score (np.ndarray): Scores (N,), at least one.
        is_correct (np.ndarray): Whether each image is rightly classified, bool (N,).
        share (float): The share, in (0, 1].

    Returns:
        float: One of the scores.

    Raises:
        ValueError: If there is none.
    """
    order = np.argsort(-score, kind='stable')
    errors = np.cumsum(~is_correct[order]) / np.arange(1, len(score) + 1)
    # Those of one score are accepted together.
    is_last = np.append(np.diff(score[order]) != 0, True)
    fitting = np.flatnonzero(is_last & (errors <= share))
    if not len(fitting):
        raise ValueError(
            f'Expected a threshold with at most {share:g} errors among accepted images, but even '
            f'the least share is {errors[is_last].min():.3g}'
        )
    return float(score[order][fitting[-1]])


def main(argv: list[str] | None = None) -> None:
    """Predict, choose, and print the threshold and what it does.

    Args:
        argv (list[str], optional): The arguments; None stands for those of the process. Defaults
            to None.
    """
    with one_line_errors():
        args = parse_args(argv)
        cfg, model = load(args)
        if not isinstance(model, LogisticClassifier) or not predicts_by_softmax(model.head):
            raise ValueError(
                'Expected a LogisticClassifier of single labels, but got '
                f'{type(model).__name__} with {type(model.head).__name__}'
            )
        logits, labels = predict_logits(model, build_loader(cfg, args.split))
        score = logits.sigmoid().amax(1).numpy()
        label, predicted = labels.numpy(), logits.argmax(1).numpy()
        is_known, is_correct = label >= 0, predicted == label
        if not is_known.any():
            raise ValueError('Expected images of known classes, but every label is below 0')
        if args.accept is not None:
            threshold = threshold_at(score[is_known], args.accept)
        else:
            threshold = limit_errors(score, is_correct, args.error)

    accepted = score >= threshold
    rows = [
        ('known images accepted', accepted[is_known]),
        ('errors among accepted images', ~is_correct[accepted]),
        ('errors among known images, all accepted', ~is_correct[is_known]),
    ]
    if not is_known.all():
        rows.insert(1, ('unknown images accepted', accepted[~is_known]))
    cells = [(what, f'{100 * part.mean():.2f} %', len(part)) for what, part in rows]
    print(markdown_table((args.split, 'share', 'of'), cells), end='')
    # The shortest text that float32 reads as this very score.
    print(f'--cfg-options model.reject_below={np.float32(threshold)!s}')


if __name__ == '__main__':
    main()
