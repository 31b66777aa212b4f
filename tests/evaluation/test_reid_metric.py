import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample

from frlr_mm.evaluation import ReIDMetric
from frlr_mm.evaluation.retrieval import Embeddings, evaluate_reid
from tests.support import references_reid
from tests.support.processes import run_ranks

TOPK = (1, 5, 10, 20)
BATCH_SIZE = 3


def make_samples(num_queries, num_gallery, seed=0, dtype=torch.float32):
    """What a model returns: queries, then the gallery; each person has each camera."""
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(num_queries + num_gallery):
        sample = DataSample(
            metainfo=dict(camera_id=int(rng.integers(3)), is_query=i < num_queries)
        )
        sample.set_gt_label(int(rng.integers(4)))
        sample.set_field(torch.from_numpy(rng.normal(size=8)).to(dtype), 'feature')
        samples.append(sample)
    return samples


def evaluate(samples, size, **kwargs):
    evaluator = Evaluator([dict(type='ReIDMetric', topk=TOPK, **kwargs)])
    for start in range(0, len(samples), BATCH_SIZE):
        evaluator.process(samples[start : start + BATCH_SIZE])
    return evaluator.evaluate(size)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(('num_queries', 'num_gallery'), [(7, 40), (20, 20)])
def test_equals_the_naive_reference(num_queries, num_gallery, dtype):
    samples = make_samples(num_queries, num_gallery, dtype=dtype)
    rows = [
        (sample.feature.tolist(), sample.gt_label.item(), sample.camera_id) for sample in samples
    ]
    expected = references_reid.evaluate(rows[:num_queries], rows[num_queries:], TOPK)
    expected = {f'reid/{name}': value for name, value in expected.items()}
    assert evaluate(samples, len(samples)) == pytest.approx(expected, abs=1e-4)


def test_queries_may_stand_anywhere():
    samples = make_samples(5, 30)
    expected = evaluate(samples, 35)
    assert evaluate(samples[5:20] + samples[:5] + samples[20:], 35) == pytest.approx(expected)


def test_prefix_and_topk():
    evaluator = Evaluator([ReIDMetric(topk=(3,), prefix='market')])
    evaluator.process(make_samples(5, 30))
    assert set(evaluator.evaluate(35)) == {
        'market/rank-3',
        'market/mAP',
        'market/mAP_trapezoid',
        'market/mINP',
        'market/queries_left_out',
    }


@pytest.mark.parametrize(
    ('topk', 'error'), [(0, ValueError), ((1, 0), ValueError), ((2.5,), TypeError)]
)
def test_bad_topk_is_named_before_any_batch(topk, error):
    with pytest.raises(error, match='`topk`'):
        ReIDMetric(topk=topk)


def test_one_k():
    assert ReIDMetric(topk=3).topk == (3,)


def test_keeps_no_more_than_the_features():
    """A row of a tensor would take the whole batch along when ranks exchange it."""
    metric = ReIDMetric()
    batch = torch.randn(100, 8, requires_grad=True)
    sample = make_samples(1, 0)[0].to_dict() | dict(feature=batch[0])
    metric.process(None, [sample | dict(feature=feature.detach()) for feature in batch])
    assert len(metric.results) == 100
    assert isinstance(metric.results[0][0], np.ndarray)


@pytest.mark.parametrize('field', ['feature', 'gt_label', 'camera_id', 'is_query'])
def test_missing_field_is_named(field):
    sample = make_samples(1, 0)[0].to_dict()
    del sample[field]
    with pytest.raises(ValueError, match=rf"ReIDMetric expected .* but \['{field}'\] are missing"):
        ReIDMetric().process(None, [sample])


@pytest.mark.parametrize(
    ('num_queries', 'num_gallery', 'missing'), [(0, 9, 'queries'), (9, 0, 'gallery')]
)
def test_empty_part_is_named(num_queries, num_gallery, missing):
    samples = make_samples(num_queries, num_gallery)
    with pytest.raises(ValueError, match=f'queries and a gallery, but got no {missing}'):
        evaluate(samples, 9)


# None divides into two or four ranks with full batches; some need padding, others do not.
SIZES = [(6, 23), (5, 7), (3, 30)]


def evaluate_on_rank(rank, world_size):
    """Evaluate a rank's share, padded as in mmengine's runs."""
    metrics = []
    for num_queries, num_gallery in SIZES:
        samples = make_samples(num_queries, num_gallery)
        for collect_device in ('cpu', 'gpu'):
            for round_up in (True, False):
                share = DefaultSampler(samples, shuffle=False, round_up=round_up)
                metrics.append(
                    evaluate(
                        [samples[i] for i in share], len(samples), collect_device=collect_device
                    )
                )
    return metrics


@pytest.mark.parametrize('world_size', [2, 4])
def test_processes_equal_one(tmp_path, world_size):
    expected = [evaluate(make_samples(*sizes), sum(sizes)) for sizes in SIZES for _ in range(4)]
    for metrics in run_ranks(evaluate_on_rank, world_size, tmp_path):
        assert metrics == [pytest.approx(one, abs=1e-9) for one in expected]


def test_metric_is_the_function():
    samples = make_samples(6, 30)
    parts = [
        Embeddings(
            torch.stack([sample.feature for sample in part]),
            torch.cat([sample.gt_label for sample in part]),
            torch.tensor([sample.camera_id for sample in part]),
        )
        for part in (samples[:6], samples[6:])
    ]
    expected = {f'reid/{name}': value for name, value in evaluate_reid(*parts, TOPK).items()}
    assert evaluate(samples, 36) == expected
