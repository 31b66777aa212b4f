"""Batch samplers that mmengine lacks."""

from collections.abc import Iterable, Iterator

from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, Sampler


@DATA_SAMPLERS.register_module()
class NoLoneImageBatchSampler(BatchSampler):
    """Batches as by default, except that a last one of a single image is dropped.

    A batch normalisation of vectors, as in :class:`~frlr_mm.models.BNNeckHead`, cannot train on a
    single image. ``drop_last=True`` would drop any last batch that is not full, and all of a data
    set smaller than the batch. It goes into a data loader as
    ``batch_sampler=dict(type='NoLoneImageBatchSampler')``.

    Args:
        sampler (Sampler | Iterable): The indices, in their order; at least 2.
        batch_size (int): The number of images per batch, >= 2.

    Raises:
        ValueError: If ``batch_size`` or the number of indices is 1, as nothing would be left.
    """

    def __init__(self, sampler: Sampler[int] | Iterable[int], batch_size: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        for name, value in (('batch_size', batch_size), ('len(sampler)', len(sampler))):  # type: ignore[arg-type]
            if value == 1:
                raise ValueError(
                    f'Expected `{name}` to be at least 2, as batch normalisation cannot train on '
                    'a single image, but got 1'
                )

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the indices of each batch."""
        return (batch for batch in super().__iter__() if len(batch) > 1)

    def __len__(self) -> int:
        """Return the number of batches."""
        is_lone = len(self.sampler) % self.batch_size == 1  # type: ignore[arg-type]
        return super().__len__() - is_lone
