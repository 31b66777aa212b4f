"""Calibrate a checkpoint: fit scale and shift of its logits, write them into a copy."""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmpretrain.models import MultiLabelClsHead
from torch import Tensor, nn

from ..engine.calibration import fit, fold, likelihood_loss
from ..engine.files import replacing
from ..engine.launch import one_line_errors
from ..engine.predict import predict_logits
from ..engine.safe_load import load as load_file
from ..evaluation.calibration import Bins, equal_width_bins
from ..evaluation.calibration_metric import CalibrationMetric
from ..models.classifiers.logistic_classifier import LogisticClassifier, predicts_by_softmax
from ..reporting.figures import figure_files
from ..reporting.reliability import save_reliability_diagram
from ..reporting.tables import markdown_table
from ._checkpoint import add_arguments, add_split, build_loader, load

# Below this share of the likelihood's logarithm, another fit is rounding and changes nothing.
_GAIN = 1e-6


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Fit scale and shift (of a softmax: the temperature) of the logits on a '
        'validation set, and write a copy of the checkpoint that has them in the weights of its '
        'classifier. A calibrated checkpoint stays as it is.'
    )
    add_arguments(parser)
    parser.add_argument('--out', type=Path, required=True, help='the copy')
    parser.add_argument(
        '--scores',
        choices=('top', 'all'),
        default='top',
        help='which sigmoids are to be probabilities: that of the predicted class (default), or '
        'those of all classes; several labels, and a softmax, are always fitted as a whole',
    )
    parser.add_argument('--figure', type=Path, help='a reliability diagram: PNG and SVG')
    add_split(parser)
    args = parser.parse_args(argv)
    if args.figure:
        try:
            figure_files(args.figure)
        except ValueError as error:
            parser.error(str(error))
    return args


def main(argv: list[str] | None = None) -> None:
    """Predict, fit, write, and print the calibration before and after.

    Args:
        argv (list[str], optional): The arguments; None stands for those of the process. Defaults
            to None.
    """
    with one_line_errors():
        args = parse_args(argv)
        # The copy has neither optimizer nor averaged weights.
        if os.path.realpath(args.out) == os.path.realpath(args.checkpoint):
            raise ValueError(
                f'Expected `--out` to be another file than the checkpoint, but got {args.out}'
            )
        cfg, model = load(args)
        logistic = is_logistic(model)
        logits, label = predict_logits(model, build_loader(cfg, args.split))
        if label.ndim == 1:
            logits, label = logits[label >= 0], label[label >= 0]
        fitted, truth = logits, label
        if logistic and label.ndim == 1 and args.scores == 'top':
            # One yes-or-no answer per image: whether the predicted class is right.
            fitted, predicted = logits.max(1, keepdim=True)
            truth = (predicted == label[:, None]).float()
        scale, shift = fit(fitted, truth, logistic)
        calibrated = logits * scale + shift
        before = likelihood_loss(fitted, truth, logistic)
        after = likelihood_loss(fitted * scale + shift, truth, logistic)
        if before - after < _GAIN * before:
            scale, shift, calibrated = 1.0, 0.0, logits
        write_copy(args, model, scale, shift)

    pair = [measure(each, label, logistic) for each in (logits, calibrated)]
    names = list(pair[0][0])
    rows = [
        (state, *(f'{values[name]:.4g}' for name in names))
        for state, (values, _) in zip(('before', 'after'), pair, strict=True)
    ]
    if (scale, shift) == (1.0, 0.0):
        print('calibrated already: the weights are copied as they are')
    print(f'{len(logits)} images of {args.split}: scale {scale:.5g}, shift {shift:.5g}')
    print(markdown_table(('', *names), rows), end='')
    if args.figure:
        bins = {state: each[1] for state, each in zip(('before', 'after'), pair, strict=True)}
        print(*save_reliability_diagram(bins, args.figure), sep='\n')
    print(args.out)


def is_logistic(model: Any) -> bool:
    """Return whether a model's scores are sigmoids; raise a ValueError where it has none."""
    if isinstance(model.head, MultiLabelClsHead):
        return True
    if not predicts_by_softmax(model.head):
        raise ValueError(
            f'Expected a head that predicts classes, but got {type(model.head).__name__}'
        )
    return isinstance(model, LogisticClassifier)


def measure(logits: Tensor, label: Tensor, logistic: bool) -> tuple[dict[str, float], Bins]:
    """Return the measures of calibration of logits, and the bins of the diagram."""
    score = logits.sigmoid() if logistic else logits.softmax(1)
    if label.ndim == 2:
        known = (label >= 0).numpy()
        scores, truth = score.double().numpy(), label.numpy() > 0.5
        columns = [equal_width_bins(s[k], t[k]) for s, t, k in zip(scores.T, truth.T, known.T)]
        errors = [bins.error() for bins in columns if bins.counts.any()]
        bins = equal_width_bins(scores[known], truth[known])
        loss = likelihood_loss(logits, label, logistic)
        ece = 100 * bins.error()
        return dict(ece=ece, ece_classwise=100 * float(np.mean(errors)), bce=loss), bins
    pairs = list(zip(score.numpy(), label.tolist(), strict=True))
    is_correct = (score.argmax(1) == label).numpy()
    bins = equal_width_bins(score.amax(1).numpy(), is_correct)
    return CalibrationMetric().compute_metrics(pairs), bins


def write_copy(args: argparse.Namespace, model: nn.Module, scale: float, shift: float) -> None:
    """Write the weights of the checkpoint with another classifier, and what was done to it."""
    checkpoint = load_file(args.checkpoint, 'cpu')
    state = checkpoint.get('state_dict', checkpoint)
    meta: dict[str, Any] = dict(checkpoint.get('meta') or {}) if 'state_dict' in checkpoint else {}
    state = dict(state)
    if (scale, shift) != (1.0, 0.0):
        for name, value in fold(model, scale, shift).items():
            key = name if name in state else f'module.{name}'
            if key not in state or state[key].shape != value.shape:
                raise ValueError(f'Expected {args.checkpoint} to hold {name}, but it does not')
            state[key] = value.cpu().to(state[key].dtype)
    old = meta.get('calibration') or dict(scale=1.0, shift=0.0)
    meta['calibration'] = dict(scale=scale * old['scale'], shift=scale * old['shift'] + shift)
    # Not the optimizer and averaged weights: training that goes on would undo it.
    with replacing(args.out) as partial:
        torch.save(dict(meta=meta, state_dict=state), partial)


if __name__ == '__main__':
    main()
