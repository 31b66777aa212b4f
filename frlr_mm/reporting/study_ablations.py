"""The runs of the study beside tuning and report: defaults, ablations, options, a quick look."""

from collections.abc import Iterator
from typing import Any

from .study import Run
from .study_jobs import BASE, FOCUS, JOBS, LOSSES, PICTURE_FOCUS, SEEDS


def _with_and_without_bias_decay(*losses: str) -> list[tuple[str, dict]]:
    return [(loss, changes) for changes in ({}, dict(bias_decay=0.0)) for loss in losses]


# By job: what its losses start from, and one change at a time that may become an option.
OPTIONS: dict[str, tuple[dict[str, dict], list[tuple[str, dict]]]] = {
    'omniglot-half': (
        {'lr': {}, 'hslr': dict(ratio=0.01, anneal='cosine'), 'sslr': dict(gamma=0.25)},
        [
            *_with_and_without_bias_decay('lr', 'hslr', 'sslr'),
            ('hslr', dict(per_batch=True)),
            ('hslr', dict(last_phase=0.2)),
            ('hslr', dict(anneal_end=0.5)),
            ('hslr', dict(anneal_end=1.0)),
            ('sslr', dict(gamma=0.1)),
            ('sslr', dict(last_phase=0.2)),
        ],
    ),
    'cifar100-short': (
        {'hslr': dict(ratio=0.1, anneal='cosine')},
        [('hslr', {}), ('hslr', dict(ratio=0.3))],
    ),
    'kanji-short': (
        {'lr': dict(lr=0.4), 'hslr': dict(lr=0.4, ratio=0.1, anneal='cosine')},
        _with_and_without_bias_decay('lr', 'hslr'),
    ),
    # Trained to the end, since the short runs showed that the bias has to decay there.
    'kanji': ({'lr': dict(lr=0.4)}, _with_and_without_bias_decay('lr')),
    'omniglot-id': (
        {
            'sr': dict(weight_decay=1e-3),
            'lr': dict(weight_decay=1e-3),
            'hslr': dict(weight_decay=1e-3, ratio=0.01, anneal='cosine'),
            'sslr': dict(weight_decay=1e-3, gamma=0.25),
        },
        [
            ('sr', {}),
            *_with_and_without_bias_decay('lr', 'hslr', 'sslr'),
            ('sr', dict(weight_decay=2e-3)),
            ('lr', dict(weight_decay=2e-3)),
            ('lr', dict(weight_decay=2e-3, bias_decay=0.0)),
        ],
    ),
    'identification': (
        {'lr': {}, 'hslr': dict(ratio=0.01)},
        _with_and_without_bias_decay('lr', 'hslr'),
    ),
    'fashion-short': (
        {
            'lr': dict(lr=0.3),
            'hslr': dict(lr=0.3, ratio=0.3, anneal='cosine'),
            'sslr': dict(lr=0.3, gamma=0.1),
            'focal': dict(lr=0.9, gamma=2.0),
            'asl': dict(lr=0.9, gamma_neg=1.0),
        },
        [
            *_with_and_without_bias_decay('lr', 'hslr', 'sslr'),
            ('lr', dict(balance=0.25)),
            ('hslr', dict(balance=0.25)),
            ('sslr', dict(balance=0.25)),
            ('lr', dict(balance=0.5)),
            ('hslr', dict(balance=0.5)),
            ('hslr', dict(per_batch=True)),
            ('hslr', dict(last_phase=0.2)),
            ('sslr', dict(last_phase=0.2)),
            # The search ends at their best rate.
            *((loss, changes) for changes in ({}, dict(lr=1.8)) for loss in ('focal', 'asl')),
        ],
    ),
    # What won on held-out data, on the test split: the settings are those of the search.
    'fashion': (
        {
            'lr': dict(lr=0.3, weight_decay=1e-3),
            'hslr': dict(lr=0.3, ratio=0.6, anneal='cosine'),
            'sslr': dict(lr=0.3, gamma=0.1),
        },
        [(loss, each) for each in ({}, dict(balance=0.25)) for loss in ('lr', 'hslr', 'sslr')],
    ),
}


def ablations(job: str) -> Iterator[Run]:
    """Yield the runs of the ablation; a loss comes unchanged first.

    They are on the split to tune on, but for those of 'fashion'.
    """
    if job == 'categories-1000':
        yield from _category_ablations()
    if job in ('omniglot-half', 'cifar100-short'):
        yield from _picture_ablations(job)
    if job in ('omniglot-short', 'omniglot-half'):
        yield from _annealing(job)
    if job in OPTIONS:
        yield from _options(job)
    if job == 'attributes':
        yield from _attribute_ablations()


def default_runs(job: str) -> Iterator[Run]:
    """Yield three seeds of the recipes' own settings on the test split, for Omniglot alone."""
    if job not in ('omniglot', 'omniglot-id'):
        return
    for seed in SEEDS[:3]:
        for loss in LOSSES[JOBS[job].kind]:
            settings: dict[str, Any] = BASE | PICTURE_FOCUS.get(loss, {})
            if loss == 'hslr':
                settings['anneal'] = 'cosine'
            if job == 'omniglot-id':
                settings['weight_decay'] = 1e-3
                if loss != 'sr':
                    settings['bias_decay'] = 0.0
            yield Run(job, loss, 'test', seed, settings)


def _picture_ablations(job: str) -> Iterator[Run]:
    """Yield what prior, annealing and selection add one by one, three seeds each."""
    cosine = dict(anneal='cosine')
    for seed in SEEDS[:3]:
        for loss, changes in (
            ('lr', {}),
            ('lr', dict(prior=False)),
            ('hslr', cosine),
            ('hslr', cosine | dict(prior=False)),
            ('hslr', dict(anneal='none')),
            ('sslr', {}),
            ('sslr', dict(prior=False)),
        ):
            yield Run(job, loss, 'val', seed, BASE | PICTURE_FOCUS.get(loss, {}) | changes)


def _annealing(job: str) -> Iterator[Run]:
    """Yield the shapes of HS-LR's annealing, two seeds each; the recipe's own comes first."""
    for seed in SEEDS[:2]:
        for lr in (0.4, 0.2):
            for changes in (
                {},
                dict(anneal='cosine'),
                dict(anneal='linear'),
                dict(anneal_begin=0.2),
            ):
                settings = BASE | PICTURE_FOCUS['hslr'] | dict(lr=lr) | changes
                yield Run(job, 'hslr', 'val', seed, settings)


def _options(job: str) -> Iterator[Run]:
    """Yield what might make the losses better where they lose, three seeds each.

    They have the length of the search, in re-identification the long one: the gap grows with it.
    """
    first, options = OPTIONS[job]
    split = 'test' if job == 'fashion' else 'val'
    for loss, changes in options:
        for seed in SEEDS[:3]:
            yield Run(job, loss, split, seed, BASE | first[loss] | changes)


def _attribute_ablations() -> Iterator[Run]:
    """Yield a weight decay that tuning offers to LR alone, balanced weights, and two rates."""
    for loss, focus in ('lr', {}), ('hslr', dict(ratio=0.6)), ('sslr', dict(gamma=0.1)):
        settings = BASE | focus
        yield Run('attributes', loss, 'val', 0, settings)
        settings = settings | dict(weight_decay=1e-3)
        for seed in SEEDS[:3]:
            yield Run('attributes', loss, 'val', seed, settings)
            for balance in 0.25, 0.5:
                yield Run('attributes', loss, 'val', seed, settings | dict(balance=balance))
    # The focal loss was best at the largest rate of all, at which the others fail.
    for lr in 1.6, 3.2:
        yield Run('attributes', 'focal', 'val', 0, BASE | dict(gamma=2.0, lr=lr))


def _category_ablations() -> Iterator[Run]:
    """Yield the prior, the annealing, and sweeps of all settings."""

    def run(loss: str, seed: int = 0, **changes: Any) -> Run:
        settings = BASE | FOCUS.get(loss, {}) | changes
        return Run('categories-1000', loss, 'val', seed, settings)

    for seed in SEEDS[:3]:  # the prior and the annealing
        for loss in ('sr', 'lr', 'hslr', 'sslr'):
            yield run(loss, seed)
            if loss != 'sr':
                yield run(loss, seed, prior=False)
        yield run('hslr', seed, anneal='none')
        yield run('hslr', seed, anneal='none', ratio=0.1)
        yield run('hslr', seed, anneal='cosine')
    changes: dict[str, list[dict[str, Any]]] = {
        'hslr': [
            *(dict(ratio=ratio) for ratio in (0.003, 0.03, 0.1, 0.3)),
            dict(anneal='linear'),
            *(dict(anneal_end=end) for end in (0.5, 1.0)),
            *(dict(alpha=alpha, ratio=0.02) for alpha in (1.0, 10.0, 100.0)),
        ],
        'sslr': [
            *(dict(gamma=gamma) for gamma in (0.25, 1.0, 2.0)),
            dict(gamma=1.0, anneal='linear'),
            *(dict(alpha=alpha) for alpha in (1.0, 100.0)),
            dict(alpha=100.0, anneal_alpha=999.0),
        ],
    }
    for loss, own in changes.items():
        for each in own:
            yield run(loss, **each)
    for loss in ('sr', 'lr', 'hslr', 'sslr'):
        for decay in (1e-4, 2e-3):
            yield run(loss, weight_decay=decay)
        for lr in (0.05, 0.1, 0.4, 0.8):
            yield run(loss, lr=lr)


def quick_runs() -> Iterator[Run]:
    """Yield a few runs that show what the prior and the annealing are worth."""
    for loss, changes in (
        ('sr', {}),
        ('lr', {}),
        ('lr', dict(prior=False)),
        ('hslr', {}),
        ('hslr', dict(anneal='none')),
        ('sslr', {}),
    ):
        settings = BASE | FOCUS.get(loss, {}) | changes
        yield Run('categories-1000', loss, 'val', 0, settings)
