import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from mmpretrain import get_model

from tests.tools.conftest import ROOT

# 12 characters, of which 8 are trained.
SMALL = {
    'model.head.num_classes': 8,
    **{
        f'{split}_dataloader.{key}': value
        for split in ('val', 'test')
        for key, value in (
            ('num_workers', 0),
            ('persistent_workers', False),
            ('dataset.data_root', 'glyphs'),
            ('dataset.num_classes', 8),
        )
    },
}


def recipe(loss, kind=''):
    return ROOT / f'configs/glyphs/resnet18_b128-{loss}_glyphs{kind}.py'


@pytest.fixture
def save_model(tmp_path, monkeypatch):
    """Write a checkpoint of a recipe as training does, and return its name.

    The network is not trained, but its classifier knows the mean features of the test classes.
    """

    def save(config, options=SMALL, **more):
        torch.manual_seed(0)
        cfg = Config.fromfile(config)
        cfg.merge_from_dict(dict(options))
        model = get_model(cfg).eval()
        monkeypatch.chdir(tmp_path)
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        samples = pseudo_collate([dataset[i] for i in range(len(dataset))])
        with torch.no_grad():
            data = model.data_preprocessor(samples)
            features = model.extract_feat(data['inputs'], stage='pre_logits')
            if 'gt_score' in data['data_samples'][0]:
                labels = torch.stack([sample.gt_score for sample in data['data_samples']])
            else:
                labels = torch.cat([sample.gt_label for sample in data['data_samples']])
                # A row of zeros for -1, an unknown class.
                labels = torch.eye(model.head.num_classes + 1)[labels][:, :-1]
            centred = features - features.mean(0)
            means = labels.T @ centred / labels.sum(0)[:, None].clamp(min=1)
            weight = torch.nn.functional.normalize(means)
            weight = 3 * weight / (centred @ weight.T).std()
            model.head.fc.weight.copy_(weight)
            model.head.fc.bias.copy_(-weight @ features.mean(0))
        meta = dict(dataset_meta=dict(dataset.metainfo), epoch=3)
        torch.save(dict(state_dict=model.state_dict(), meta=meta, **more), tmp_path / 'model.pth')
        return 'model.pth'

    return save


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Call a command in a folder of its own; return its status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(main, *args):
        status = 0
        try:
            main([str(arg) for arg in args])
        except SystemExit as error:
            status = error.code
        out, err = capsys.readouterr()
        return status, f'{out}{err}{status if isinstance(status, str) else ""}'

    return call
