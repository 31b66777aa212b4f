"""The jobs of the study: their data and length, their losses, what those are tuned over."""

from typing import NamedTuple

SEEDS = (0, 1, 2, 3, 4)
EPOCHS = 4
BASE = dict(lr=0.2, weight_decay=5e-4)
FOCUS = {'hslr': dict(ratio=0.01), 'sslr': dict(gamma=0.5)}
PICTURE_FOCUS = FOCUS | {'sslr': dict(gamma=0.25)}
# The metric that chooses the tuned settings, and what else is reported, by kind of job.
METRICS = {
    'categories': ('accuracy/top1', 'accuracy/top5'),
    'identification': ('reid/mAP', 'reid/rank-1', 'reid/mINP'),
    'attributes': ('attribute/mAP', 'attribute/recall@3', 'attribute/CF1', 'attribute/OF1'),
}
# Channels of the first stage of the network.
WIDTH = 16


class Job(NamedTuple):
    """A job of the study: what all its runs have in common.

    Args:
        kind (str): 'categories', 'identification' or 'attributes'.
        num_classes (int): The number of classes to train on.
        epochs (int): The length of a run.
        data (str): 'glyphs', which are rendered, or the name of a set of pictures, for which
            --data is needed. Defaults to 'glyphs'.
        seeds (int): The number of seeds on the test split; 0 for a job that others are tuned on.
            Defaults to 5.
        tuned_on (str, optional): The job whose settings are taken; None stands for this one.
            Defaults to None.
        val_interval (int): Epochs from one validation to the next. Defaults to 1.
        width (int): Channels of the first stage of the network. Defaults to 16.
        depth (int): Layers of the ResNet. Defaults to 18.
        amp (bool): Whether to train in bfloat16, which takes a GPU. Defaults to False.
        test_samples (int): Test images per glyph and face. Defaults to 1.
    """

    kind: str
    num_classes: int
    epochs: int
    data: str = 'glyphs'
    seeds: int = 5
    tuned_on: str | None = None
    val_interval: int = 1
    width: int = WIDTH
    depth: int = 18
    amp: bool = False
    test_samples: int = 1

    @property
    def takes_pictures(self) -> bool:
        """Whether the job needs --data."""
        return self.data != 'glyphs'


# In the order in which they run.
JOBS = {
    'omniglot': Job('categories', 1623, 24, 'omniglot', 5, 'omniglot-half', val_interval=4),
    'omniglot-half': Job('categories', 1623, 12, 'omniglot', 0, val_interval=4),
    'omniglot-short': Job('categories', 1623, 6, 'omniglot'),
    'kanji': Job('categories', 6355, 12, 'kanji', 3, 'kanji-short', val_interval=3),
    'kanji-short': Job('categories', 6355, 3, 'kanji', 3),
    'categories-1000-long': Job(
        'categories', 1000, 4 * EPOCHS, tuned_on='categories-1000', val_interval=4, test_samples=3
    ),
    'omniglot-id': Job(
        'identification', 964, 24, 'omniglot', 5, 'omniglot-id-short', val_interval=4
    ),
    'omniglot-id-short': Job('identification', 964, 6, 'omniglot', val_interval=2),
    'fashion': Job('attributes', 175, 20, 'fashion', 5, 'fashion-short', val_interval=4),
    'fashion-short': Job('attributes', 175, 5, 'fashion'),
    'cifar100': Job('categories', 100, 24, 'cifar100', 5, 'cifar100-short', val_interval=4),
    'cifar100-short': Job('categories', 100, 6, 'cifar100', val_interval=2),
    'tiny-imagenet': Job(
        'categories', 200, 16, 'tiny-imagenet', 3, 'cifar100-short', val_interval=4
    ),
    'tiny-imagenet-short': Job('categories', 200, 4, 'tiny-imagenet', 3, 'cifar100-short'),
    'omniglot-wide': Job('categories', 1623, 24, 'omniglot', 3, 'omniglot-half', 4, 32),
    # A network of the field, for a GPU: as long as the settings were tuned.
    'omniglot-resnet50': Job(
        'categories', 1623, 12, 'omniglot-64', 3, 'omniglot-half', 4, 64, depth=50, amp=True
    ),
    'cifar100-wide': Job('categories', 100, 24, 'cifar100', 3, 'cifar100-short', 4, 32),
    # A tenth of the images: five times as many epochs make half as many steps.
    'categories-100': Job('categories', 100, 5 * EPOCHS, tuned_on='categories-1000'),
    'categories-1000': Job('categories', 1000, EPOCHS),
    'categories-2162': Job('categories', 2162, EPOCHS, tuned_on='categories-1000'),
    'identification': Job('identification', 1000, EPOCHS),
    'attributes': Job('attributes', 35, EPOCHS),
}
# The losses of the paper's comparison, which run first, and what else is compared.
LOSSES = {
    'categories': ('sr', 'lr', 'hslr', 'sslr'),
    'identification': ('sr', 'lr', 'hslr', 'sslr'),
    'attributes': ('lr', 'hslr', 'sslr', 'focal', 'asl'),
}
MORE_LOSSES = {
    'categories': ('sr-smooth', 'focal'),
    'identification': ('sr-smooth', 'arcface'),
    'attributes': ('two-way',),
}
# The learning rates that every loss is tuned over, up to one beyond the best of each loss.
RATES = {
    'categories': (0.1, 0.2, 0.4, 0.8),
    'identification': (0.05, 0.1, 0.2, 0.4),
    'attributes': (0.05, 0.1, 0.2, 0.4, 0.8, 1.6),
}
PICTURE_RATES = {
    'categories': (0.2, 0.4, 0.8),
    'identification': (0.05, 0.1, 0.2),
    'attributes': (0.1, 0.3, 0.9),
}
# The loss that the others are compared with.
BASELINE = {'categories': 'sr', 'identification': 'sr', 'attributes': 'lr'}


def losses_of(job: str) -> tuple[str, ...]:
    """Return the losses of a job, those of the paper's comparison first."""
    kind = JOBS[job].kind
    has_more = JOBS[job].takes_pictures and JOBS[job].width == WIDTH
    return LOSSES[kind] + MORE_LOSSES[kind] * has_more
