from types import SimpleNamespace

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmpretrain.models import AverageClsScoreTTA

from frlr_mm.engine.hooks import LogitScoresHook
from tests.models.classifiers.test_logistic_classifier import HEADS, D, build


@pytest.mark.parametrize('kind', ['LogisticClassifier', 'ImageClassifier'])
@pytest.mark.parametrize('name', ['linear', 'conformer', 'deit'])
def test_adds_the_scores_of_the_logits(name, kind):
    model, hook = build(*HEADS[name], kind=kind), LogitScoresHook()
    runner = SimpleNamespace(model=model)
    x = torch.randn(3, D)
    logits = model(x, mode='tensor')
    logits = sum(logits) if isinstance(logits, tuple) else logits
    for start, stop in ((hook.before_val, hook.after_val), (hook.before_test, hook.after_test)):
        start(runner)
        model(torch.randn(2, D), mode='predict')  # a batch before
        model(x, mode='tensor')
        for sample, row in zip(model(x, mode='predict'), logits.double(), strict=True):
            assert sample.to_dict()['largest_logit'] == pytest.approx(row.max().item())
            assert sample.energy == pytest.approx(row.exp().sum().log().item(), rel=1e-5)
        stop(runner)
        assert 'energy' not in model(x, mode='predict')[0]


def test_finds_the_model_of_several_processes(monkeypatch):
    model = build(HEADS['linear'][0])
    wrapper = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    torch.nn.Module.__init__(wrapper)
    wrapper.module = model
    LogitScoresHook().before_test(SimpleNamespace(model=wrapper))
    assert 'energy' in model(torch.randn(1, D), mode='predict')[0]


def test_models_that_do_not_fit():
    tta = AverageClsScoreTTA(module=build(HEADS['linear'][0]))
    with pytest.raises(ValueError, match='sees an image once, but got AverageClsScoreTTA'):
        LogitScoresHook().before_test(SimpleNamespace(model=tta))
    headless = build(HEADS['linear'][0])
    headless.head = None
    with pytest.raises(ValueError, match='has a head'):
        LogitScoresHook().before_val(SimpleNamespace(model=headless))
