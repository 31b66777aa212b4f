"""Measure whole training steps of a recipe and of its stock twin, taking turns in one process.

Forward, backward and optimizer step on random images that are there already: data loading is not
part of it. Rows are appended to docs/results/bench_training.csv. A recipe with a hook is named
"CONFIG + HOOK NAME=INT ..." and takes at least `interval` steps in a round. Without --recipe, a
small ResNet on 32 x 32 images is measured on the CPU, ResNet-50 and ViT-B/16 on a GPU. Time is the
CPU time of the thread where one thread computes, else wall time.
"""

import argparse
import csv
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from machine import describe, peak_memory
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmpretrain.structures import DataSample
from mmpretrain.utils import register_all_modules

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

MONITORED = 'configs/glyphs/resnet18_b128-hslr_glyphs.py + NegativeClassDistractionHook'

# recipe, its stock twin or itself without a hook, images a step, their side
CPU_CASES = [
    (
        'configs/glyphs/resnet18_b128-sslr_glyphs.py',
        'configs/glyphs/resnet18_b128-sr_glyphs.py',
        128,
        32,
    ),
    (
        'configs/glyphs/resnet18_b128-hslr_glyphs.py',
        'configs/glyphs/resnet18_b128-sr_glyphs.py',
        128,
        32,
    ),
    (MONITORED, 'configs/glyphs/resnet18_b128-hslr_glyphs.py', 128, 32),
    (f'{MONITORED} interval=1', 'configs/glyphs/resnet18_b128-hslr_glyphs.py', 128, 32),
]
CUDA_CASES = [
    ('configs/resnet50_frlr.py', 'mmpretrain::resnet/resnet50_8xb32_in1k.py', 64, 224),
    (
        'configs/vit-base-p16_frlr.py',
        'mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k.py',
        64,
        224,
    ),
]


class Recipe:
    """A model and its optimizer, and a batch to train it with; a hook, if it is named."""

    def __init__(self, name: str, batch_size: int, side: int, device: str) -> None:
        path, _, hook = name.partition(' + ')
        cfg = Config.fromfile(path if '::' in path else ROOT / path)
        torch.manual_seed(0)
        self.model = MODELS.build(
            dict(cfg.model, data_preprocessor=cfg.get('data_preprocessor'))
        ).to(device)
        self.model.init_weights()
        self.model.train()
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        num_classes = self.model.head.num_classes
        images = torch.randint(256, (batch_size, 3, side, side), dtype=torch.uint8)
        samples = [DataSample().set_gt_label(i % num_classes) for i in range(batch_size)]
        self.batch = dict(inputs=images, data_samples=samples)
        # What the hook knows of a Runner.
        self.runner = SimpleNamespace(
            model=self.model, iter=0, message_hub=MessageHub.get_instance(name)
        )
        self.hook = Hook()
        if hook:
            kind, *options = hook.split()
            pairs = (option.split('=') for option in options)
            self.hook = HOOKS.build(dict(type=kind, **{k: int(v) for k, v in pairs}))
        self.hook.before_train(self.runner)

    def step(self) -> None:
        self.hook.before_train_iter(self.runner, self.runner.iter)
        self.model.train_step(self.batch, self.optim_wrapper)
        self.hook.after_train_iter(self.runner, self.runner.iter)
        self.runner.iter += 1


def measure(case: tuple, rounds: int, steps: int, device: str) -> list[dict]:
    """Return a row for the recipe and one for its twin."""
    path, twin, batch_size, side = case
    recipes = {name: Recipe(name, batch_size, side, device) for name in (twin, path)}
    steps = max(steps, getattr(recipes[path].hook, 'interval', 1))
    one_thread = device == 'cpu' and torch.get_num_threads() == 1
    now = time.thread_time if one_thread else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in recipes}
    for recipe in recipes.values():
        recipe.step()  # the optimizer's state is there from now on
    peaks = {name: peak_memory(recipe.step, device) for name, recipe in recipes.items()}
    for i in range(rounds + 1):  # the first one warms up
        for name, recipe in recipes.items():
            if device == 'cuda':
                torch.cuda.synchronize()
            start = now()
            for _ in range(steps):
                recipe.step()
            if device == 'cuda':
                torch.cuda.synchronize()
            if i:
                times[name].append((now() - start) / steps)
    rows = []
    for name, values in times.items():
        own = torch.tensor(values, dtype=torch.float64)
        ratio = own / torch.tensor(times[twin], dtype=torch.float64)
        row = dict(
            recipe=name,
            batch_size=batch_size,
            side=side,
            rounds=rounds,
            steps=steps,
            clock='thread CPU time' if one_thread else 'wall time',
            images_per_s=f'{batch_size / own.median():.4g}',
            peak_bytes=peaks[name],
        )
        for q in (20, 50, 80):
            row[f'p{q}_ms'] = f'{1e3 * torch.quantile(own, q / 100):.4g}'
            row[f'ratio_p{q}'] = f'{torch.quantile(ratio, q / 100):.4g}'
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    parser.add_argument('--threads', type=int, default=1, help='of the CPU')
    parser.add_argument('--recipe', nargs=4, metavar=('CONFIG', 'TWIN', 'IMAGES', 'SIDE'))
    parser.add_argument('--rounds', type=int, default=20)
    parser.add_argument('--steps', type=int, default=2, help='of each recipe in a round')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs/results')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    register_all_modules()
    import frlr_mm  # noqa: F401 (registers the losses)

    init_default_scope('mmpretrain')

    cases = CPU_CASES if args.device == 'cpu' else CUDA_CASES
    if args.recipe:
        config, twin, batch_size, side = args.recipe
        cases = [(config, twin, int(batch_size), int(side))]
    rows = [
        describe(args.device) | row
        for case in cases
        for row in measure(case, args.rounds, args.steps, args.device)
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / 'bench_training.csv'
    is_new = not path.exists()
    with path.open('a', newline='') as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator='\n')
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == '__main__':
    main()
