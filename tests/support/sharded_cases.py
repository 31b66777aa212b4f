"""Inputs of a classifier whose classes are spread over processes."""

from dataclasses import dataclass, field

import torch

CHANNELS = 6


@dataclass(frozen=True)
class Case:
    """A loss, and images of each process: as many as there are, or fewer."""

    num_classes: int
    k: int | None = None  # None is soft selection
    gamma: float = 0.25
    dtype: str = 'float64'
    sizes: tuple[int, ...] = (2, 2, 2, 2)
    ties: bool = False
    labels: str = 'any'
    options: dict = field(default_factory=dict, hash=False)

    def __str__(self):
        loss = f'ss-{self.gamma}' if self.k is None else f'hs-k{self.k}'
        parts = (f'C{self.num_classes}', loss, self.dtype, *self.sizes)
        flags = ('ties',) * self.ties + (self.labels,) * (self.labels != 'any')
        options = tuple(f'{key}={value}' for key, value in self.options.items())
        return '-'.join(map(str, parts + flags + options))


def make(case, world_size):
    """Return features, weight, bias, label and the arguments of the joined batch."""
    generator = torch.Generator().manual_seed(case.num_classes)
    num_images = sum(case.sizes[:world_size])

    def draw(*shape):
        if case.ties:  # small integers, whose products are exact in any order
            return torch.randint(-1, 2, shape, generator=generator).double()
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    dtype = getattr(torch, case.dtype)
    x, w, b = draw(num_images, CHANNELS), draw(case.num_classes, CHANNELS), draw(case.num_classes)
    label = torch.randint(case.num_classes, (num_images,), generator=generator)
    if case.labels != 'any':
        label.fill_(0 if case.labels == 'first' else case.num_classes - 1)
    options = dict(case.options)
    options.pop('ties', None)
    for name, length in (
        ('class_weight', case.num_classes),
        ('pos_weight', case.num_classes),
        ('sample_weight', num_images),
    ):
        if options.get(name):
            options[name] = torch.rand(length, generator=generator, dtype=dtype) + 0.5
    b = b if options.pop('bias', True) else None
    if case.k is None:
        options['gamma'] = case.gamma
    else:
        options['ratio'] = case.k / case.num_classes
    tensors = [None if each is None else each.to(dtype) for each in (x, w, b)]
    return *tensors, label, options
