"""Settings of the whole suite."""

import gc
import logging
import os

import pytest
from hypothesis import settings

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
    """Spare the collector the modules of torch and mmpretrain: 0.3 s per data set.

    mmengine collects garbage whenever it builds one.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def quiet_tracing(monkeypatch):
    """Keep pytest from formatting what torch's exporter notes of each operation, in thousands."""
    monkeypatch.setattr(logging.getLogger('torch.__trace'), 'propagate', False)


def pytest_collection_modifyitems(items):
    """Run the tests of command lines first: they take longest, and one may be left to the end."""
    items.sort(key=lambda item: 'tools' not in item.path.parts)
