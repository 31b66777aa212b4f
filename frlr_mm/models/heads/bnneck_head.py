"""A classifier behind batch normalisation, whose input is the feature for retrieval."""

from typing import Any

from mmengine.registry import MODELS
from mmpretrain.models.heads import LinearClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn


@MODELS.register_module()
class BNNeckHead(LinearClsHead):
    """Linear classifier behind a batch normalisation (BNNeck), which returns features.

    It trains as :class:`mmpretrain.models.LinearClsHead` does, with any loss. Where that predicts
    classes, this sets ``feature``, the vector (in_channels,) between normalisation and
    classifier, in each data sample: the persons to find are none of the training classes.

    The bias of the normalisation stays 0. The classifier keeps its own, unlike in the source: in
    a logistic loss it is the log-odds of the prior, without which C sigmoids start at 1/2.

    Args:
        num_classes (int): The number of training classes.
        in_channels (int): The length of a feature.
        **kwargs: Other arguments of :class:`mmpretrain.models.LinearClsHead`.

    Raises:
        ValueError: In training, if a batch is a single image, which has no variance to normalise
            by.

    Source: Luo et al., "Bag of Tricks and A Strong Baseline for Deep Person Re-identification",
    CVPR Workshops 2019.
    """

    def __init__(self, num_classes: int, in_channels: int, **kwargs: Any) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.bn = nn.BatchNorm1d(in_channels)
        self.bn.bias.requires_grad_(False)

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Return the features (N, in_channels) that the classifier gets."""
        # Other kinds of normalisation that replace it, such as SyncBatchNorm, have other needs.
        # Asked for in evaluation, too, the number of images would be fixed in an export.
        if self.bn.training and isinstance(self.bn, nn.BatchNorm1d) and len(feats[-1]) == 1:
            raise ValueError(
                'Expected BNNeckHead to get at least 2 images per batch and process in training, '
                "but got 1: set `batch_sampler=dict(type='NoLoneImageBatchSampler')` or "
                '`drop_last=True` in `train_dataloader`'
            )
        return self.bn(feats[-1])

    def predict(
        self, feats: tuple[Tensor, ...], data_samples: list[DataSample | None] | None = None
    ) -> list[DataSample]:
        """Set the feature of each image.

        Args:
            feats (tuple[Tensor]): What the neck returns; the last (N, in_channels) counts.
            data_samples (list[DataSample | None], optional): Where to set it; None stands
                for new samples. Defaults to None.

        Returns:
            list[DataSample]: The samples, with ``feature`` (in_channels,).
        """
        features = self.pre_logits(feats)
        samples = [None] * len(features) if data_samples is None else data_samples
        out = []
        for sample, feature in zip(samples, features, strict=True):
            sample = DataSample() if sample is None else sample
            sample.set_field(feature, 'feature', dtype=Tensor)
            out.append(sample)
        return out
