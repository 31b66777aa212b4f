"""Each image that `--show-dir` is asked for has a file of its own."""

import pytest
import torch
from mmpretrain.engine import VisualizationHook
from mmpretrain.structures import DataSample

from frlr_mm.engine import show_dir


class Drawn:
    """In place of a visualizer; keeps what it is asked to write."""

    def __init__(self):
        self.files, self.values = [], []

    def visualize_cls(self, image, data_sample, step, name, out_file=None, show=False):
        assert image.shape == (2, 2, 3) and out_file == f'out/{name}_{step}.png'
        self.files.append(name)
        self.values.append(int(image[0, 0, 0]))


def draw(paths, batch_size, interval=1, views=None):
    """Draw images whose value is their number; return names of files and values."""
    hook = object.__new__(VisualizationHook)
    hook.enable, hook.interval, hook.out_dir = True, interval, 'out'
    hook.draw_args, hook._visualizer = {}, Drawn()
    images = torch.arange(len(paths), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    for batch_idx, begin in enumerate(range(0, len(paths), batch_size)):
        part = slice(begin, begin + batch_size)
        metas = [{} if path is None else dict(img_path=path) for path in paths[part]]
        samples = [DataSample(metainfo=meta) for meta in metas]
        inputs = images[part]
        if views == 'stacked':
            inputs = [inputs, inputs.flip(-1)]
        elif views == 'lists':
            inputs = [list(inputs), list(inputs.flip(-1))]
        hook._draw_samples(batch_idx, dict(inputs=inputs), samples, step=0)
    return hook._visualizer.files, hook._visualizer.values


@pytest.mark.parametrize('views', [None, 'stacked', 'lists'])
@pytest.mark.parametrize('batch_size', [1, 8, 60, 100])
def test_images_without_a_path(batch_size, views):
    files, values = draw([None] * 60, batch_size, views=views)
    assert files == [str(i) for i in range(60)] and values == list(range(60))


def test_images_of_one_name_in_several_folders():
    paths = [f'{folder}/{i}.jpg' for folder in 'ab' for i in range(3)]
    assert draw(paths, 4)[0] == ['0.jpg', '1.jpg', '2.jpg', '3_0.jpg', '4_1.jpg', '5_2.jpg']


@pytest.mark.parametrize(('interval', 'expected'), [(1, 10), (4, 3), (20, 1)])
def test_interval_counts_images(interval, expected):
    files, values = draw([None] * 10, 3, interval)
    assert values == list(range(0, 10, interval)) and len(files) == expected


def test_second_process(monkeypatch):
    monkeypatch.setattr(show_dir, 'get_world_size', lambda: 2)
    monkeypatch.setattr(show_dir, 'get_rank', lambda: 1)
    assert draw([None] * 3, 2)[0] == ['1', '3', '5']
    assert draw(['a/x.jpg', 'b/y.jpg'], 2)[0] == ['1_x.jpg', '3_y.jpg']


def test_each_pass_begins_anew():
    hook = object.__new__(VisualizationHook)
    hook.enable, hook.interval, hook.out_dir = True, 1, 'out'
    hook.draw_args, hook._visualizer = {}, Drawn()
    batch = dict(inputs=torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    for step in (1, 2):
        hook._draw_samples(0, batch, [DataSample(metainfo=dict(img_path='a/x.jpg'))], step=step)
    assert hook._visualizer.files == ['x.jpg', 'x.jpg']  # a name ends with its step
    hook.enable = False
    hook._draw_samples(0, batch, [], step=3)
    assert len(hook._visualizer.files) == 2
