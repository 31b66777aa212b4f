"""What is left of a training that a signal ends."""

import os
import signal
import uuid
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from frlr_mm.engine.checkpoints import find_latest_whole_checkpoint
from frlr_mm.engine.hooks import PreemptionHook
from frlr_mm.engine.safe_load import load


class Images(BaseDataset):
    def load_data_list(self):
        return [dict(inputs=torch.tensor([float(i)])) for i in range(4)]


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode='loss', **kwargs):
        if mode == 'predict':
            return inputs
        return dict(loss=((self.weight - torch.stack(inputs)) ** 2).mean())


class Score(BaseMetric):
    """A score that no longer grows after the first epoch; SIGTERM comes as it is measured."""

    def __init__(self, stop_in=None):
        super().__init__()
        self.stop_in, self.epoch = stop_in, 0

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        self.epoch += 1
        if self.epoch == self.stop_in:
            os.kill(os.getpid(), signal.SIGTERM)
        return dict(score=0.5)


def train(work_dir, stop_in=None, load_from=None):
    loader = dict(
        batch_size=2,
        dataset=Images(serialize_data=False),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    Runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        train_cfg=dict(type='SeededEpochTrainLoop', max_epochs=3),
        val_cfg=dict(),
        val_evaluator=[Score(stop_in)],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        param_scheduler=[
            dict(type='ReduceOnPlateauLR', monitor='score', rule='greater', patience=0)
        ],
        default_hooks=dict(preemption=dict(type='PreemptionHook')),
        randomness=dict(seed=0),
        default_scope='mmpretrain',
        experiment_name=uuid.uuid4().hex,
        resume=load_from is not None,
        load_from=load_from,
    ).train()
    return load(work_dir / 'epoch_3.pth')


def test_stopped_in_a_validation_goes_on_with_what_it_changed(tmp_path):
    """The checkpoint of the epoch, of the same iteration, is written before the validation."""
    whole = train(tmp_path / 'whole')
    parts = tmp_path / 'parts'
    with pytest.raises(SystemExit, match='143'):
        train(parts, stop_in=2)
    assert (parts / 'epoch_2.pth').is_file()
    latest = find_latest_whole_checkpoint(str(parts))
    assert latest == str(parts / 'interrupted.pth')
    assert (parts / 'last_checkpoint').read_text() == latest
    resumed = train(parts, load_from=latest)
    assert resumed['optimizer']['param_groups'][0]['lr'] == pytest.approx(0.01)
    assert torch.equal(resumed['state_dict']['weight'], whole['state_dict']['weight'])


@pytest.mark.parametrize('interval', [0, 2.5, True, '10'])
def test_bad_interval(interval):
    with pytest.raises(ValueError, match=rf'`interval` to be an int in \[1, inf\].*{interval!r}'):
        PreemptionHook(interval)


def test_last_checkpoint_is_whole_or_the_old_one(tmp_path, monkeypatch):
    (tmp_path / 'last_checkpoint').write_text('epoch_1.pth')
    hook = PreemptionHook()
    hook._stop = signal.SIGTERM
    runner = SimpleNamespace(
        work_dir=str(tmp_path),
        epoch=1,
        logger=MMLogger.get_current_instance(),
        save_checkpoint=lambda *args, **kwargs: None,
    )

    def fail(*args):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', fail)
        with pytest.raises(OSError, match='No space left'):
            hook._save_and_exit(runner, 3)
    assert (tmp_path / 'last_checkpoint').read_text() == 'epoch_1.pth'
    with pytest.raises(SystemExit, match='143'):
        hook._save_and_exit(runner, 3)
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'interrupted.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['last_checkpoint']
