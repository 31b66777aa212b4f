"""Measure whole training steps of a recipe and of its stock twin, taking turns in one process.

Forward, backward and optimizer step on random images that are there already: data loading is not
part of it. Rows are appended to bench_training.csv in the folder of --out. A recipe with a hook is
named "CONFIG + HOOK NAME=INT ..." and takes at least `interval` steps in a round. Without
--recipe, a small ResNet on 32 x 32 images is measured on the CPU, ResNet-50 and ViT-B/16 on a GPU.
Time is the CPU time of the thread where one thread computes, else wall time.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'], help='default: cpu')
    parser.add_argument('--threads', type=int, default=1, help='threads of the CPU (default: 1)')
    parser.add_argument(
        '--recipe',
        nargs=4,
        metavar=('CONFIG', 'TWIN', 'IMAGES', 'SIDE'),
        help='a recipe, its twin, images per step and their side in pixels',
    )
    parser.add_argument(
        '--dtype',
        default='float32',
        choices=['float32', 'bfloat16'],
        help='what autocast computes in; float32: none (default: float32)',
    )
    parser.add_argument('--rounds', type=int, default=20, help='default: 20')
    parser.add_argument(
        '--steps', type=int, default=2, help='steps of each recipe per round (default: 2)'
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/bench'),
        help='the folder to write to (default: work_dirs/bench)',
    )
    args = parser.parse_args()
    for name in ('threads', 'rounds', 'steps'):
        if getattr(args, name) < 1:
            parser.error(f'expected --{name} to be at least 1, but got {getattr(args, name)}')
    return args


if __name__ == '__main__':
    ARGS = parse_args()  # before the imports, which take seconds: --help answers at once

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.hub import get_config
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmpretrain.structures import DataSample
from mmpretrain.utils import register_all_modules

import frlr_mm  # noqa: F401 (registers the losses)
from frlr_mm.reporting.machine import describe, peak_memory
from frlr_mm.reporting.tables import append_rows
from frlr_mm.reporting.timing import clock, columns, take_turns

# Of a checkout or of an installed package: configs stand beside tools.
ROOT = Path(__file__).resolve().parents[2]
MONITORED = 'configs/glyphs/resnet18_b128-hslr_glyphs.py + NegativeClassDistractionHook'

# recipe, its stock twin or itself without a hook, images per step, their side
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
        'mmpretrain::vision_transformer/vit-base-p16_32xb128-mae_in1k.py',
        64,
        224,
    ),
]


class Recipe:
    """A model and its optimizer, and a batch to train it with; a hook, if it is named."""

    def __init__(self, name: str, batch_size: int, side: int, args: argparse.Namespace) -> None:
        path, _, hook = name.partition(' + ')
        if '::' in path:  # of another package
            cfg = get_config(path)
        else:
            cfg = Config.fromfile(path if Path(path).is_file() else ROOT / path)
        torch.manual_seed(0)
        self.model = MODELS.build(
            dict(cfg.model, data_preprocessor=cfg.get('data_preprocessor'))
        ).to(args.device)
        self.model.init_weights()
        self.model.train()
        if args.dtype != 'float32':
            # mmengine's AmpOptimWrapper refuses a CPU; bfloat16 needs no loss scale.
            autocast = torch.autocast(args.device, getattr(torch, args.dtype))
            self.model.forward = autocast(self.model.forward)
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

    def time(self, steps: int, now: Callable[[], float]) -> tuple[float]:
        """Return the seconds that a step takes, the mean of several."""
        start = now()
        for _ in range(steps):
            self.step()
        return ((now() - start) / steps,)


def measure(case: tuple, args: argparse.Namespace) -> list[dict]:
    """Return a row for the twin and one for the recipe."""
    path, twin, batch_size, side = case
    recipes = {name: Recipe(name, batch_size, side, args) for name in (twin, path)}
    steps = max(args.steps, getattr(recipes[path].hook, 'interval', 1))
    now, what = clock(args.device, args.threads)
    for recipe in recipes.values():
        recipe.step()  # the optimizer's state is there from now on
    peaks = {name: peak_memory(recipe.step, args.device) for name, recipe in recipes.items()}
    times = take_turns(
        {name: lambda recipe=recipe: recipe.time(steps, now) for name, recipe in recipes.items()},
        args.rounds,
    )
    rows = []
    for name, values in times.items():
        row = columns(values[:, 0], times[twin][:, 0])
        images_per_s = 1e3 * batch_size / float(row['p50_ms'])
        print(f'{name}: {row["p50_ms"]} ms per step, {row["ratio_p50"]} x {twin}', flush=True)
        rows.append(
            dict(
                recipe=name,
                batch_size=batch_size,
                side=side,
                dtype=args.dtype,
                rounds=args.rounds,
                steps=steps,
                clock=what,
                images_per_s=f'{images_per_s:.4g}',
                peak_bytes=peaks[name],
                **row,
            )
        )
    return rows


def main(args: argparse.Namespace) -> None:
    """Measure, append the rows."""
    torch.set_num_threads(args.threads)
    register_all_modules()
    init_default_scope('mmpretrain')
    MMLogger.get_current_instance().setLevel('WARNING')  # a line for each weight of ViT-B/16
    cases = CPU_CASES if args.device == 'cpu' else CUDA_CASES
    if args.recipe:
        config, twin, batch_size, side = args.recipe
        cases = [(config, twin, int(batch_size), int(side))]
    about = describe(args.device)
    rows = [about | row for case in cases for row in measure(case, args)]
    append_rows(args.out / 'bench_training.csv', rows)


if __name__ == '__main__':
    main(ARGS)
