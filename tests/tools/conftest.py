import runpy
import signal
import sys
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

ROOT = Path(__file__).resolve().parents[2]
SMALL_GLYPHS = {
    f'{split}_dataloader.dataset.{name}': value
    for split in ('train', 'val', 'test')
    for name, value in (('num_classes', 20), ('data_root', 'glyphs'))
} | {
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
    'test_dataloader.num_workers': 0,
}


def options(values):
    """Return ``--cfg-options`` and its pairs."""
    return ['--cfg-options', *(f'{key}={value}' for key, value in values.items())]


@pytest.fixture
def run_tool(monkeypatch, tmp_path, capfd):
    """Run a command line in this process, in a folder of its own; return its status and output."""
    monkeypatch.chdir(tmp_path)

    def run(name, *args):
        # A new process has no logger; an old one would write to a stream that is closed by now.
        MMLogger._instance_dict.clear()
        monkeypatch.setattr(sys, 'argv', [str(ROOT / 'tools' / name), *map(str, args)])
        status = 0
        # A training that fails ends its process, and leaves its handlers to it.
        handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            runpy.run_path(sys.argv[0], run_name='__main__')
        except SystemExit as error:
            status = error.code
            if isinstance(status, str):  # what sys.exit prints
                print(status, file=sys.stderr)
                status = 1
        finally:
            for each, handler in handlers.items():
                signal.signal(each, handler)
        out, err = capfd.readouterr()
        return status, out + err

    return run
