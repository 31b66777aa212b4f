"""What a run gets right comes back bit by bit."""

import numpy as np
import pytest
import torch

from frlr_mm.reporting.correct import CorrectImages, pack_bits, unpack_bits


@pytest.mark.parametrize('num', [0, 1, 8, 9738])
def test_round_trip(num):
    bits = np.random.default_rng(0).random(num) < 0.8
    np.testing.assert_array_equal(unpack_bits(pack_bits(bits)), bits)


def test_metric_writes_the_last_evaluation(tmp_path):
    metric = CorrectImages(str(tmp_path / 'run/correct.txt'))
    for labels in ([0, 1, 2], [0, 2, 1]):
        samples = [
            dict(pred_score=torch.eye(3)[i], gt_label=torch.tensor([label]))
            for i, label in enumerate(labels)
        ]
        metric.process(None, samples[:2])
        metric.process(None, samples[2:])
        assert metric.evaluate(3) == {}
    found = unpack_bits((tmp_path / 'run/correct.txt').read_text())
    assert found.tolist() == [True, False, False]
