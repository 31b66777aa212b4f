"""The linear head whose classes are spread over the processes of a run."""

from typing import Any

import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor

from ...functional import sharded_linear_topk
from ..sharded_linear import ShardedLinear
from .fused_linear_cls_head import FusedLinearClsHead


@MODELS.register_module()
class ShardedLinearClsHead(FusedLinearClsHead):
    """Linear head of which each process holds a share of the classes, and no logits.

    The choice where one GPU holds neither the classifier nor its gradient and optimizer state. It
    takes the place of ``FusedLinearClsHead``, which it is on one process; on several, losses,
    gradients and predictions are those of one process on the joined batch. What crosses the
    network is the features, their gradient and a few numbers per image, whatever the number of
    classes.

    A run on several processes needs ``runner_type='ShardedRunner'``, which tools/train.py and
    tools/test.py set by themselves. Its checkpoints are those of ``LinearClsHead``.

    On several processes a prediction is ``pred_label``, ``pred_topk_label`` and
    ``pred_topk_score`` (the softmax over all classes), of the ``max(topk)`` first classes:
    :class:`~frlr_mm.evaluation.TopKAccuracy` counts them.

    Args:
        num_classes (int): C, the number of all classes, at least that of the processes.
        in_channels (int): The length of a feature.
        *args: As for ``LinearClsHead``.
        **kwargs: As for ``FusedLinearClsHead``.

    Raises:
        TypeError: If ``loss`` is neither an ``HSLRLoss`` nor an ``SSLRLoss``.
        ValueError: If there are fewer classes than processes, if torch.distributed is not
            initialised where several processes were launched, or if ``cal_acc`` is set.
    """

    def __init__(self, num_classes: int, in_channels: int, *args: Any, **kwargs: Any) -> None:
        # Not the layer of all classes, not even for a moment.
        super().__init__(1, in_channels, *args, **kwargs)
        self.fc = ShardedLinear(in_channels, num_classes)
        self.num_classes = num_classes

    def init_weights(self) -> None:
        """Draw the weights; those of the first process are the ones of a head without shards."""
        shard = self.fc.shard
        if shard.rank == 0:
            super().init_weights()
            return
        device = self.fc.weight.device
        # Processes have the same seed and would draw the same weights for their classes.
        with torch.random.fork_rng([device] if device.type == 'cuda' else []):
            torch.manual_seed(torch.initial_seed() + shard.rank)
            super().init_weights()

    def loss(
        self, feats: tuple[Tensor, ...], data_samples: list[DataSample], **kwargs: Any
    ) -> dict[str, Tensor]:
        """Compute the loss of the images of this process; all processes have to call it.

        Args:
            feats (tuple[Tensor]): Features of the backbone's stages; the last one, (N, D), counts.
            data_samples (list[DataSample]): The labels, ``gt_label`` of each.
            **kwargs: As for the loss module.

        Returns:
            dict[str, Tensor]: The loss. Averaged over the processes, it is that of the joined
            batch.

        Raises:
            RuntimeError: If DistributedDataParallel would average the classes of one process with
                those of another.
            ValueError: If a sample carries ``gt_score``, a dense target.
        """
        if not self.fc.is_kept_from_ddp:
            raise RuntimeError(
                "Expected `runner_type='ShardedRunner'` in the config of a run with "
                'ShardedLinearClsHead on several processes; without mmengine, call '
                'frlr_mm.models.keep_shards_from_ddp(model) before the model is wrapped'
            )
        return super().loss(feats, data_samples, **kwargs)

    def _fused_loss(self, features: Tensor, label: Tensor, **kwargs: Any) -> Tensor:
        if self.fc.shard.world_size == 1:
            return super()._fused_loss(features, label, **kwargs)
        # The mean is one over the joined batch: no `avg_factor` of this process.
        return self.loss_module.forward_fused(
            features, self.fc.weight, self.fc.bias, label, shard=self.fc.shard, **kwargs
        )

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Return the logits (N, C), on one process.

        Args:
            feats (tuple[Tensor]): Features of the backbone's stages; the last one, (N, D), counts.

        Returns:
            Tensor: The logits.

        Raises:
            ValueError: If the classes are spread over several processes.
        """
        if self.fc.shard.world_size > 1:
            raise ValueError(
                'Expected one process where the logits of all classes are asked for, but got '
                f'{self.fc.shard.world_size}, each with a share of the classes'
            )
        return super().forward(feats)

    def predict(
        self, feats: tuple[Tensor, ...], data_samples: list[DataSample | None] | None = None
    ) -> list[DataSample]:
        """Predict the classes of images; all processes have to call it.

        Args:
            feats (tuple[Tensor]): Features of the backbone's stages; the last one, (N, D), counts.
            data_samples (list[DataSample | None], optional): Where to set the prediction; None
                stands for new samples. Defaults to None.

        Returns:
            list[DataSample]: On one process as of ``LinearClsHead``. On several with
            ``pred_label`` (1,), ``pred_topk_label`` and ``pred_topk_score`` (max(topk),).
        """
        shard = self.fc.shard
        if shard.world_size == 1:
            return super().predict(feats, data_samples)
        k = min(max(self.topk), self.num_classes)
        features = self.pre_logits(feats)
        scores, labels = sharded_linear_topk(features, self.fc.weight, self.fc.bias, shard, k)
        samples = [None] * len(features) if data_samples is None else data_samples
        out = []
        for sample, score, label in zip(samples, scores, labels, strict=True):
            sample = DataSample() if sample is None else sample
            sample.set_pred_label(label[:1])
            sample.set_field(label, 'pred_topk_label', dtype=Tensor)
            sample.set_field(score, 'pred_topk_score', dtype=Tensor)
            out.append(sample)
        return out
