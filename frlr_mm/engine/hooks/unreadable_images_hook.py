"""The images that a training run had to do without."""

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

RECORD = 'unreadable_images.txt'


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Say at the end of a training run how many images were skipped, and which.

    They are read from ``unreadable_images.txt`` in the work folder, where
    :class:`~frlr_mm.datasets.LoadCheckedImage` notes them. An image counts once, however often and
    for whatever reasons it was skipped; a run that is resumed counts what it skipped before.
    tools/train.py adds this hook to a config that has that transform, and starts a new file where
    a run is not resumed.
    """

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Log the number and the paths, each once, with the last reason."""
        record = Path(runner.work_dir, RECORD)
        if not record.is_file():
            return
        # Names that are not UTF-8 stay apart.
        text = record.read_text(encoding='utf-8', errors='backslashreplace')
        lines = [line for line in text.split('\n') if line]
        # The name of a file may hold a tab, a reason does not.
        reasons = dict(line.rpartition('\t')[::2] for line in lines)
        listed = '\n'.join(f'{path}: {reason}' for path, reason in reasons.items())
        runner.logger.warning(
            f'{len(reasons)} unreadable images were skipped, {len(lines)} times in all '
            f'({record}):\n{listed}'
        )
