"""The config of each run of the study: the recipe of its job and loss, and what it changes."""

import functools
import zlib
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from frlr_mm.datasets.glyphs._faces import TRAIN_FACES
from frlr_mm.engine.files import replacing

from .decoded import decode_folder
from .rivals import PLAIN_LR
from .study import Run
from .study_jobs import JOBS

# Settings are tuned on two of the training faces: upright and slanted, sans and serif.
VAL_FACES = ('DejaVuSans-Oblique', 'DejaVuSerif-Bold')
FIT_FACES = tuple(face for face in TRAIN_FACES if face not in VAL_FACES)
# The network of all runs, as deep and wide as the job says: on glyphs, a quarter of the channels
# is twice as fast as the recipes' own network and as good after four epochs.
BACKBONE = dict(_delete_=True, type='ResNet', style='pytorch')
# Font files of the job kanji; to tune, the last two of the training faces are held out.
KANJI_TRAIN = (
    'NotoSansCJK-Regular.ttc',
    'NotoSerifCJK-Regular.ttc',
    'NotoSansCJK-Black.ttc',
    'ipag.ttf',
    'ipam.ttf',
    'ume-tgo4.ttf',
    'ume-tmo3.ttf',
    'MTLmr3m.ttf',
    'kiloji.ttf',
    'migmix-1p-bold.ttf',
    'LXGWWenKai-Regular.ttf',
    'BIZUDMincho-Regular.ttf',
)
KANJI_TEST = ('BIZUDGothic-Regular.ttf', 'HanaMinA.ttf', 'MTLc3m.ttf', 'setofont.ttf')
# Of the sorted alphabets of the background, every fifth is held out to tune re-identification.
HELD_OUT = 5

# Of sets of pictures: folder below --data, decoded size, mean and standard deviation (RGB),
# whether images may be flipped.
SETS = {
    'omniglot': ('omniglot', (32, 32), [234.5] * 3, [60.9] * 3, False),
    'omniglot-64': ('omniglot', (64, 64), [234.5] * 3, [60.9] * 3, False),
    'fashion': ('fashion_products', (36, 48), [217.6, 213.2, 211.5], [65.6, 69.3, 70.1], True),
    'cifar100': ('cifar100', (32, 32), [129.3, 124.1, 112.4], [68.2, 65.4, 70.4], True),
    'tiny-imagenet': (
        'tiny-imagenet-200',
        (32, 32),
        [122.5, 114.3, 101.4],
        [66.3, 64.5, 67.6],
        True,
    ),
}
# The recipes that the jobs start from.
RECIPES = {
    'categories': 'omniglot/resnet18_b128-{}_omniglot.py',
    'identification': 'omniglot/resnet18_b128-{}_omniglot-id.py',
    'attributes': 'fashion/resnet18_b128-{}_fashion-products.py',
}
GLYPH_SUFFIX = dict(categories='', identification='-id', attributes='-attr')
# Losses without a recipe of their own: the recipe that they are made from, and their loss.
RIVALS: dict[str, tuple[str, dict]] = {
    'sr-smooth': ('sr', dict(type='LabelSmoothLoss', label_smooth_val=0.1)),
    # Without its balance of classes; the factor 2 takes back the half that alpha leaves.
    'focal': ('lr', dict(type='FocalLoss', alpha=0.5, loss_weight=2.0)),
    'two-way': ('lr', dict(type='TwoWayLoss')),
    'arcface': ('sr', dict(type='CrossEntropyLoss')),
}
# Whose gradient the monitor knows to split.
MONITORED = ('HSLRLoss', 'SSLRLoss')


def make_config(run: Run, glyphs: str, configs: Path, data: Path | None = None) -> Config:
    """Return the config of a run.

    Args:
        run (Run): The run.
        glyphs (str): The folder of rendered glyphs.
        configs (Path): The folder of the recipes.
        data (Path, optional): The folder of the sets of pictures, for the jobs that take one.
            Defaults to None.

    Returns:
        Config: A config for tools/train.py.

    Raises:
        ValueError: If the job takes pictures, and ``data`` is None.
    """
    settings = dict(run.settings)
    job = JOBS[run.job]
    cfg = _load_recipe(run, configs)
    # A copy: merging takes `_delete_` out of it.
    size = dict(depth=job.depth, stem_channels=job.width, base_channels=job.width)
    cfg.merge_from_dict(dict(model=dict(backbone=BACKBONE | size)))
    cfg.model.head.in_channels = (8 if job.depth < 50 else 32) * job.width
    cfg.optim_wrapper.optimizer.update(
        lr=settings.pop('lr'), weight_decay=settings.pop('weight_decay')
    )
    if job.amp:
        cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype='bfloat16')
    cfg.train_cfg.update(max_epochs=job.epochs, val_interval=job.val_interval)
    cfg.param_scheduler[1].update(T_max=job.epochs - 1, end=job.epochs)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    cfg.randomness = dict(seed=run.seed)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    if job.data == 'glyphs':
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            loader.dataset.data_root = glyphs
        if run.kind == 'attributes':
            cfg.val_dataloader.dataset.split = run.split
        else:
            _set_classes(cfg, run)
    elif data is None:
        raise ValueError(f'Expected --data, the folder of the pictures, for the job {run.job}')
    else:
        cfg.custom_imports.imports += ['frlr_mm.reporting.decoded', 'frlr_mm.reporting.rivals']
        cfg.default_hooks.memory_format = dict(type='ChannelsLastHook')
        _set_pictures(cfg, run, data.resolve())
    _set_prior(cfg, settings.pop('prior', True))
    balance = settings.pop('balance', None)
    cfg.optim_wrapper.pop('paramwise_cfg', None)  # that of re-ID
    if 'bias_decay' in settings:
        # (`bias_decay_mult` would be for the biases of normalisations as well.)
        keys = {'head.fc.bias': dict(decay_mult=settings.pop('bias_decay'))}
        cfg.optim_wrapper.paramwise_cfg = dict(custom_keys=keys)
    _set_loss(cfg, settings, job.epochs)
    if balance is not None:
        cfg.custom_hooks.append(dict(type='PosWeightHook', exponent=balance))
    if job.takes_pictures and run.split == 'val' and cfg.model.head.loss.type in MONITORED:
        cfg.default_hooks.distraction = dict(type='NegativeClassDistractionHook', interval=100)
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    return cfg


def record_correct(cfg: Config, file: Path) -> None:
    """Let a run write down which test images it gets right."""
    cfg.custom_imports.imports += ['frlr_mm.reporting.correct']
    evaluators = cfg.val_evaluator if isinstance(cfg.val_evaluator, list) else [cfg.val_evaluator]
    cfg.val_evaluator = [*evaluators, dict(type='CorrectImages', out_file=str(file.resolve()))]
    cfg.test_evaluator = cfg.val_evaluator


def _load_recipe(run: Run, configs: Path) -> Config:
    job = JOBS[run.job]
    name = f'glyphs/resnet18_b128-{{}}_glyphs{GLYPH_SUFFIX[run.kind]}.py'
    if job.data != 'glyphs':
        name = RECIPES[run.kind]
    if (configs / name.format(run.loss)).is_file():
        return Config.fromfile(configs / name.format(run.loss))
    recipe, loss = RIVALS[run.loss]
    cfg = Config.fromfile(configs / name.format(recipe))
    cfg.model.head.loss = dict(loss)
    if run.loss == 'arcface':
        kept = {name: cfg.model.head[name] for name in ('num_classes', 'in_channels', 'loss')}
        cfg.model.head = dict(type='ArcFaceReIDHead', **kept)
    return cfg


def _set_classes(cfg: Config, run: Run) -> None:
    """Set the number of classes and, to tune, hold a part of the training data out."""
    job = JOBS[run.job]
    num_classes = job.num_classes
    train, val, head = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset, cfg.model.head
    if run.split == 'val':
        train.faces = FIT_FACES
        val.update(split='train', faces=VAL_FACES)
    if run.kind == 'categories':
        val.num_classes = num_classes
        val.samples_per_face = job.test_samples
    elif run.split == 'val':
        # A fifth of the training identities is to be found again.
        val.indices = -num_classes // 5 * len(VAL_FACES) * 3
        num_classes = num_classes * 4 // 5
    train.num_classes = head.num_classes = num_classes
    cfg.data_preprocessor.num_classes = num_classes


def _set_pictures(cfg: Config, run: Run, data: Path) -> None:
    """Set the data of a job that takes pictures, and the number of its classes."""
    name = JOBS[run.job].data
    if name == 'kanji':
        _set_kanji(cfg, run, data)
    else:
        folder, scale, _, _, flip = SETS[name]
        root = data / folder
        load = set_decoded(cfg, name, data)
        crop = dict(type='RandomCrop', crop_size=scale[::-1], padding=scale[0] // 16)
        if folder in ('omniglot', 'fashion_products'):
            crop['pad_val'] = 255
        mirror = [dict(type='RandomFlip', prob=0.5, direction='horizontal')] * flip
        train, val = _picture_datasets(run, root)
        pack, pack_val = cfg.train_pipeline[-1], cfg.test_pipeline[-1]
        cfg.train_dataloader.dataset = dict(train, pipeline=[load, crop, *mirror, pack])
        cfg.val_dataloader.dataset = dict(val, pipeline=[load, pack_val])
    classes = _classes(cfg.train_dataloader.dataset)
    expected = JOBS[run.job].num_classes
    if run.split == 'test' and len(classes) != expected:
        raise ValueError(
            f'Expected {expected} classes for the job {run.job}, but got {len(classes)}: is '
            f'{data} complete?'
        )
    cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = len(classes)


def set_decoded(cfg: Config, name: str, data: Path) -> dict:
    """Decode a set of pictures once, and normalise by its colours.

    Args:
        cfg (Config): The config, whose preprocessor is set.
        name (str): A key of ``SETS``.
        data (Path): The folder of the sets of pictures, absolute.

    Returns:
        dict: The transform that loads an image.

    Raises:
        ValueError: If the set is missing.
    """
    folder, scale, mean, std, _ = SETS[name]
    root, file = data / folder, data / 'cache' / f'{name}-{scale[0]}x{scale[1]}.npy'
    if not root.is_dir():
        raise ValueError(f'Expected {data} to hold the folder {folder}, but it is missing')
    decode_folder(root, file, scale)
    cfg.data_preprocessor.update(mean=mean, std=std, to_rgb=folder != 'omniglot')
    return dict(type='LoadDecodedImage', file=str(file), folder=str(root))


def _classes(dataset: dict) -> tuple[str, ...]:
    """Return the classes of a data set, without its pipeline."""
    return DATASETS.build(dict(dataset, pipeline=[], _scope_='mmpretrain')).metainfo['classes']


def _picture_datasets(run: Run, root: Path) -> tuple[dict, dict]:
    """Return the data sets to train and to evaluate on, without their pipelines."""
    name, tune = root.name, run.split == 'val'
    base: dict[str, Any] = dict(data_root=str(root))
    if name == 'omniglot' and run.kind == 'categories':
        drawers = (
            [list(range(1, 13)), [13, 14]] if tune else [list(range(1, 15)), [*range(15, 21)]]
        )
        return tuple(dict(base, type='Omniglot', drawers=each) for each in drawers)  # type: ignore
    if name == 'omniglot':
        train = dict(base, type='OmniglotReID', split='train')
        val = dict(base, type='OmniglotReID', split='test')
        if tune:
            alphabets = sorted(path.name for path in (root / 'images_background').iterdir())
            held_out = alphabets[::HELD_OUT]
            train['alphabets'] = [each for each in alphabets if each not in held_out]
            val.update(part='background', alphabets=held_out)
        return train, val
    if name == 'fashion_products':
        train = dict(base, type='FashionProducts', split='train')
        return train, dict(train, split=run.split)
    if name == 'tiny-imagenet-200':
        train = dict(base, type='TinyImageNet', split='train')
        return train, dict(train, split='val')
    folders: dict[str, Any] = dict(
        type='CustomDataset', extensions=('.png', '.jpeg'), with_label=True
    )
    train = folders | base | dict(data_prefix='train')
    if tune:
        # With a list, CustomDataset knows no names.
        classes = sorted(path.name for path in (root / 'train').iterdir() if path.is_dir())
        train['metainfo'] = dict(classes=classes)
        fit, rest = _write_lists(root / 'train')
        return dict(train, ann_file=str(fit)), dict(train, ann_file=str(rest))
    return train, dict(train, data_prefix='test')


def _write_lists(folder: Path) -> tuple[Path, Path]:
    """Write the lists of the images to tune with: nine tenths to fit, a tenth held out.

    Args:
        folder (Path): A folder for each class.

    Returns:
        tuple[Path, Path]: Both lists, as mmpretrain's ``CustomDataset`` reads them.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    lines: dict[str, list[str]] = {'fit': [], 'held_out': []}
    for label, path in enumerate(classes):
        for image in sorted(path.rglob('*')):
            if image.is_file():
                part = 'held_out' if zlib.crc32(image.name.encode()) % 10 == 0 else 'fit'
                lines[part].append(f'{image.relative_to(folder).as_posix()} {label}\n')
    files = []
    for part, content in lines.items():
        file = folder.parent / f'study_{part}.txt'
        with replacing(file) as aside:
            aside.write_text(''.join(content))
        files.append(file)
    return files[0], files[1]


def _set_kanji(cfg: Config, run: Run, data: Path) -> None:
    train: tuple[str, ...] = KANJI_TRAIN
    val: tuple[str, ...] = KANJI_TEST
    if run.split == 'val':
        train, val = KANJI_TRAIN[:-2], KANJI_TRAIN[-2:]
    cfg.data_preprocessor.update(mean=[29.6] * 3, std=[72.1] * 3)
    for loader, faces, split, pipeline in (
        (cfg.train_dataloader, train, 'train', cfg.train_pipeline),
        (cfg.val_dataloader, val, 'test', cfg.test_pipeline),
    ):
        crop = dict(type='RandomCrop', crop_size=32, padding=2)
        loader.dataset = dict(
            type='GlyphCategories',
            data_root=str(data / 'cache'),
            fonts=[str(data / 'fonts' / face) for face in faces],
            characters=kanji(),
            samples_per_face=1,
            split=split,
            pipeline=[crop] * (split == 'train') + [pipeline[-1]],
        )


@functools.cache
def kanji() -> str:
    """Return the 6,355 characters of JIS X 0208, levels 1 and 2, in the order of the standard."""
    found = ''
    for row in range(16, 85):
        for cell in range(1, 95):
            # Rows end early: their last cells are of no character.
            found += bytes([row + 0xA0, cell + 0xA0]).decode('euc_jp', errors='ignore')
    return found


def _set_prior(cfg: Config, prior: bool) -> None:
    """Start the classifier from the prior, or every class from a probability of 0.5.

    A recipe sets the prior by PriorBiasHook or as `bias_prob`, 1 / C.
    """
    head = cfg.model.head
    if 'bias_prob' in (head.get('init_cfg') or {}):
        head.init_cfg.bias_prob = 1 / head.num_classes if prior else 0.5
    if not prior:
        hooks = cfg.get('custom_hooks', ())
        cfg.custom_hooks = [hook for hook in hooks if hook.type != 'PriorBiasHook']


def _set_loss(cfg: Config, settings: dict, epochs: int) -> None:
    """Set the parameters of the loss and how they move."""
    anneal = settings.pop('anneal', None)
    begin = settings.pop('anneal_begin', 0.0)
    end = round(settings.pop('anneal_end', 0.8) * epochs)
    end_alpha = settings.pop('anneal_alpha', None)
    for name in ('margins', 'scale'):  # parameters of the head
        if name in settings:
            cfg.model.head[name] = settings.pop(name)
    loss = cfg.model.head.loss
    last_phase = settings.pop('last_phase', None)
    if settings.pop('per_batch', False):
        loss.type = 'BatchHSLRLoss'
    loss.update(settings)
    hooks = [hook for hook in cfg.get('custom_hooks', ()) if hook.type != 'FocusAnnealingHook']
    if loss.type in ('HSLRLoss', 'BatchHSLRLoss') and anneal != 'none':
        schedule = anneal or 'exponential'
        hooks.append(_annealing('ratio', 1.0, loss.ratio, schedule, end) | dict(begin=begin))
    if loss.type == 'SSLRLoss' and anneal:
        hooks.append(_annealing('gamma', 0.0, loss.gamma, anneal, end))
    if end_alpha:
        hooks.append(_annealing('alpha', loss.alpha, end_alpha, 'exponential', end))
    if last_phase:
        name, value = PLAIN_LR[loss.type]
        hooks.append(dict(type='LastPhaseHook', param=name, value=value, begin=1 - last_phase))
    cfg.custom_hooks = hooks


def _annealing(param: str, start: float, to: float, schedule: str, end: int) -> dict:
    values = dict(start_value=start, end_value=to, schedule=schedule)
    return dict(type='FocusAnnealingHook', param=param, end=end, **values)
