"""Export a checkpoint as an ONNX file, preprocessing and scores included."""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from ..engine.export import (
    OPSET,
    ExportedClassifier,
    describe_model,
    largest_difference,
    write_onnx,
)
from ..engine.files import replacing
from ..engine.launch import one_line_errors
from ._checkpoint import add_arguments, load

_PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')
# The largest difference from PyTorch that is rounding.
_TOLERANCE = 1e-4


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Export a classifier as an ONNX file that takes RGB images, uint8 '
        '(N, H, W, 3), and returns `scores` (N, C), or for person re-identification `feature` '
        '(N, D). The file is compared with PyTorch and kept if both agree.'
    )
    add_arguments(parser)
    parser.add_argument('--out', type=Path, required=True, help='the file, ending in .onnx')
    parser.add_argument(
        '--num-images',
        type=int,
        default=8,
        help='how many test images are compared, beside random ones (default: 8); 0 where the '
        'data is not at hand',
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='the size of the images (default: that of the first test image)',
    )
    args = parser.parse_args(argv)
    if args.out.suffix != '.onnx':
        parser.error(f'expected --out to end in .onnx, but got {args.out}')
    if args.num_images < 0:
        parser.error(f'expected --num-images to be at least 0, but got {args.num_images}')
    if not args.num_images and not args.shape:
        parser.error('expected --shape where --num-images is 0')
    return args


def read_images(cfg: Config, num: int) -> list[np.ndarray]:
    """Return test images, evenly spaced over the set, as RGB, uint8 (1, H, W, 3)."""
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    places = np.linspace(0, len(dataset) - 1, min(num, len(dataset))).astype(int)
    images = [dataset[int(place)]['inputs'].numpy() for place in places]
    # Pipelines give BGR, channels first.
    return [np.ascontiguousarray(image[::-1].transpose(1, 2, 0))[None] for image in images]


def main(argv: list[str] | None = None) -> None:
    """Export, compare, and print the largest difference.

    Args:
        argv (list[str], optional): The arguments; None stands for those of the process. Defaults
            to None.
    """
    with one_line_errors():
        args = parse_args(argv)
        missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise ModuleNotFoundError(
                f"{', '.join(missing)} missing: pip install 'frlr_mm[export]'"
            )
        cfg, model = load(args, device='cpu')
        images = read_images(cfg, args.num_images) if args.num_images else []
        shape = tuple(args.shape or images[0].shape[1:3])
        sizes = {image.shape[1:3] for image in images} - {shape}
        if sizes:
            raise ValueError(
                f'Expected test images of {shape[0]} x {shape[1]}, but got {sorted(sizes)}: give '
                '--shape, or --num-images 0'
            )
        exported = ExportedClassifier(model)
        rng = np.random.default_rng(0)
        batches = [rng.integers(0, 256, (num, *shape, 3), np.uint8) for num in (1, 3)]
        # A file of before stays until the new one has been compared.
        with replacing(args.out) as partial:
            write_onnx(exported, shape, partial, describe_model(model, exported.output))
            difference = largest_difference(exported, partial, [*batches, *images])
            if not difference <= _TOLERANCE:
                raise ValueError(
                    f'Expected onnxruntime to differ from PyTorch by at most {_TOLERANCE:g}, but '
                    f'got {difference:.3g}; the file is not kept'
                )
    print(
        f'{args.out}: opset {OPSET}, image uint8 (N, {shape[0]}, {shape[1]}, 3) -> '
        f'{exported.output}\nlargest difference between onnxruntime and PyTorch over 4 random and '
        f'{len(images)} test images: {difference:.2g}'
    )


if __name__ == '__main__':
    main()
