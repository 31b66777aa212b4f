"""Settings of the whole suite."""

import functools
import gc
import logging
import os
import sys
from types import SimpleNamespace as Namespace

import pytest
import torch
from hypothesis import settings

# Without a GPU, Triton's kernels are interpreted. Triton asks when it is first imported.
if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'

# What Keras reads when it is first imported: by itself it takes TensorFlow, and finds or writes
# settings below the home folder.
os.environ.setdefault('KERAS_BACKEND', 'torch')
os.environ['KERAS_HOME'] = os.devnull

# The same examples in every run; an example's time says more about the machine than the code.
settings.register_profile(
    'frlr_mm', derandomize=True, deadline=None, max_examples=30, database=None
)
# Other examples each time: pytest --hypothesis-profile=nightly
settings.register_profile(
    'nightly', deadline=None, max_examples=2000, database=None, print_blob=True
)
settings.load_profile('frlr_mm')


@pytest.fixture(scope='session', autouse=True)
def _imports_are_not_garbage():
    """Spare the collector the modules of torch and mmpretrain."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def _check_syntax(text, style_config, verify=False):
    compile(text, '<config>', 'exec')  # what yapf cannot parse it refuses
    return text, False


@pytest.fixture(scope='session', autouse=True)
def _runs_do_no_more_than_tests_look_at():
    """Leave out half of the time of a small run in this process; what tests start has all of it.

    mmengine lays out the config with yapf several times a run, reads all metafiles for one that
    inherits from mmpretrain, collects garbage for each data set, and sleeps between the epochs of
    training by iterations.
    """
    with pytest.MonkeyPatch.context() as patch:
        if 'mmengine.runner' in sys.modules:  # the functions are tested without it
            # Which the forks import elsewhere.
            patch.setattr('mmengine.config.config.FormatCode', _check_syntax, raising=False)
            load = functools.cache(sys.modules['mmengine.config.utils'].load)
            patch.setattr('mmengine.config.utils.load', load)
            patch.setattr('mmengine.dataset.base_dataset.gc', Namespace(collect=lambda: None))
            patch.setattr('mmengine.runner.loops.time', Namespace(sleep=lambda seconds: None))
        # A worker of a run that failed is not told to end where a process goes on.
        patch.setattr('torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL', 0.1)
        yield


@pytest.fixture
def quiet_tracing(monkeypatch):
    """Keep pytest from formatting what torch's exporter notes of each operation, in thousands."""
    monkeypatch.setattr(logging.getLogger('torch.__trace'), 'propagate', False)


def pytest_collection_modifyitems(items):
    """Run the tests of command lines first: they take longest, and one may be left to the end."""
    items.sort(key=lambda item: 'tools' not in item.path.parts)
