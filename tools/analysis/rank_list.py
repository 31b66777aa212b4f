"""Draw queries with the ten gallery images that a checkpoint finds most similar."""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmengine.dataset import BaseDataset
from mmengine.utils import track_iter_progress

from frlr_mm.commands._checkpoint import add_arguments, build_loader, load
from frlr_mm.engine.launch import one_line_errors
from frlr_mm.evaluation.reid_metric import ReIDMetric, split_results
from frlr_mm.evaluation.retrieval import Embeddings, rank_gallery
from frlr_mm.reporting.figures import figure_files, read_image, save_figure

TOPK = 10
# Right and wrong differ in colour, in the line and in the sign: also readable in grey.
RIGHT = dict(color='tab:green', linestyle='solid', sign='✓')
WRONG = dict(color='tab:red', linestyle='dashed', sign='✗')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, config='a config of person re-identification')
    parser.add_argument('--out', type=Path, required=True, help='the figure: PNG and SVG')
    parser.add_argument(
        '--num-queries',
        type=int,
        default=8,
        help='how many queries, evenly spaced over the set (default: 8)',
    )
    args = parser.parse_args()
    if args.num_queries < 1:
        parser.error(f'expected --num-queries to be at least 1, but got {args.num_queries}')
    return args


@torch.no_grad()
def extract(model: torch.nn.Module, loader: torch.utils.data.DataLoader) -> list[tuple]:
    """Return feature, id, camera and whether it is a query of each image of the test set."""
    metric = ReIDMetric()
    for batch in track_iter_progress((loader, len(loader))):
        metric.process(batch, [sample.to_dict() for sample in model.test_step(batch)])
    print()
    return metric.results


def show(
    axis: Axes, image: np.ndarray, caption: str, color: str = 'black', linestyle: str = 'solid'
) -> None:
    """Show an image in a frame."""
    axis.imshow(image)
    axis.set_visible(True)
    axis.set(xticks=[], yticks=[])
    axis.set_title(caption, fontsize=8, color=color)
    axis.spines[:].set(color=color, linestyle=linestyle, linewidth=2.5)


def draw(
    dataset: BaseDataset,
    is_query: np.ndarray,
    chosen: np.ndarray,
    query: Embeddings,
    gallery: Embeddings,
) -> Figure:
    """Draw a row for each chosen query: the query, then what is most similar."""
    query = Embeddings(*(tensor[chosen] for tensor in query))
    ranking = rank_gallery(query, gallery)
    places_of_queries, places_of_gallery = np.flatnonzero(is_query), np.flatnonzero(~is_query)

    height, width = read_image(dataset, places_of_queries[chosen[0]]).shape[:2]
    figure = Figure(figsize=(TOPK + 2, len(chosen) * (height / width + 0.5)), layout='constrained')
    grid = figure.subplots(len(chosen), TOPK + 1, squeeze=False)
    for axis in grid.flat:
        axis.set_visible(False)
    for row, axes in enumerate(grid):
        show(
            axes[0],
            read_image(dataset, places_of_queries[chosen[row]]),
            f'id {query.person_ids[row]}, camera {query.camera_ids[row]}',
        )
        for rank, axis in enumerate(axes[1 : len(gallery.features) + 1]):
            similarity = ranking.similarities[row, rank].item()
            if similarity == -np.inf:  # junk, and nothing but junk behind it
                break
            style = dict(RIGHT if ranking.matches[row, rank] else WRONG)
            sign = style.pop('sign')
            place = places_of_gallery[ranking.indices[row, rank]]
            show(axis, read_image(dataset, place), f'{sign} {similarity:.2f}', **style)
    return figure


def main() -> None:
    """Read the command line, extract the features, rank, draw."""
    with one_line_errors():
        args = parse_args()
        figure_files(args.out)
        cfg, model = load(args)
        loader = build_loader(cfg, 'test')

    results = extract(model, loader)
    query, gallery = split_results(results)
    num_queries = len(query.features)
    chosen = np.linspace(0, num_queries - 1, min(args.num_queries, num_queries)).astype(int)
    is_query = np.array([result[3] for result in results])
    figure = draw(loader.dataset, is_query, chosen, query, gallery)
    print(f'{len(chosen)} of {num_queries} queries', *save_figure(figure, args.out), sep='\n')


if __name__ == '__main__':
    main()
