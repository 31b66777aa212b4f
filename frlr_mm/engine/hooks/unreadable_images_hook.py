"""What images a training had to do without."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

RECORD = 'unreadable_images.txt'


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Say at the end of a training how many images were skipped, and which.

    They are read from ``unreadable_images.txt`` in the work folder, where
    :class:`~frlr_mm.datasets.LoadCheckedImage` notes them. tools/train.py adds this hook to a
    config that has that transform.
    """

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Log the number and the paths, each once."""
        record = Path(runner.work_dir, RECORD)
        if not record.is_file():
            return
        lines = record.read_text(encoding='utf-8', errors='replace').splitlines()
        images = dict.fromkeys(lines)
        listed = '\n'.join(line.replace('\t', ': ') for line in images)
        runner.logger.warning(
            f'{len(images)} unreadable images were skipped, {len(lines)} times in all '
            f'({record}):\n{listed}'
        )
