"""Checkpoints loaded without running code, whatever version of torch loads them.

From torch 2.6 on, torch's own restricted loading is asked for in every call. Its predecessors can
be made to run code (CVE-2025-32434) and cannot load the optimizers' states of mmengine, so that
older versions read the pickle through a list of names that may occur in it.
"""

import _compat_pickle
import codecs
import os
import pickle
import types
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.utils import digit_version

# Whether torch restricts what a pickle may hold, and does it well.
TORCH_RESTRICTS = digit_version(torch.__version__) >= digit_version('2.6')

# How a user allows more.
HOW_TO_ALLOW = (
    'torch.serialization.add_safe_globals([...])'
    if TORCH_RESTRICTS
    else 'frlr_mm.engine.safe_load.CHECKPOINT_TYPES.update({name: type})'
)

# What else the checkpoints of mmengine hold reach attributes of.
_ATTRIBUTES = {
    HistoryBuffer: ('min', 'max', 'current', 'mean'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def _getattr(owner: object, name: str) -> Any:
    if isinstance(owner, type) and name in _ATTRIBUTES.get(owner, ()):
        return getattr(owner, name)
    raise pickle.UnpicklingError(
        f'Refused a checkpoint that reads the attribute {name!r} of {owner!r}'
    )


# What NumPy's own pickles call; where it lives depends on the version.
_reconstruct: Any = np.empty(0).__reduce__()[0]
_scalar: Any = np.float64(0).__reduce__()[0]

# What mmengine's checkpoints hold besides what torch itself writes, and no more.
CHECKPOINT_TYPES: dict[str, Any] = {
    'builtins.getattr': _getattr,
    **{
        f'{each.__module__}.{each.__qualname__}': each
        for each in (
            HistoryBuffer,
            OneCycleParamScheduler,
            np.ndarray,
            np.dtype,
            type(np.dtype('f8')),
            type(np.dtype('i8')),
        )
    },
    # The module's name in NumPy 2 and in NumPy 1.
    'numpy._core.multiarray._reconstruct': _reconstruct,
    'numpy.core.multiarray._reconstruct': _reconstruct,
    'numpy._core.multiarray.scalar': _scalar,
    'numpy.core.multiarray.scalar': _scalar,
}


def load(
    f: str | os.PathLike | IO[bytes], map_location: Any = None, *_: Any, **options: Any
) -> Any:
    """Load what ``torch.save`` wrote, as ``torch.load`` does, but run no code.

    Args:
        f (str | PathLike | file): The checkpoint.
        map_location (Any): As for ``torch.load``. Defaults to None.
        *_ (Any): The pickle module, which is not looked at.
        **options (Any): As for ``torch.load``; ``weights_only`` and ``pickle_module`` are not
            looked at.

    Returns:
        What was saved.

    Raises:
        pickle.UnpicklingError: If the file holds more than tensors, plain values and the types
            that are allowed.
    """
    options.pop('pickle_module', None)
    if TORCH_RESTRICTS:
        with _no_builtin_getattr():
            try:
                return torch.load(f, map_location, **{**options, 'weights_only': True})
            except RuntimeError as error:
                if 'weights_only' not in str(error):
                    raise
                kind = 'a TorchScript program or the .tar format of old'
                raise pickle.UnpicklingError(kind) from None
    _refuse_torchscript(f)
    options.update(weights_only=False, pickle_module=_RESTRICTED_PICKLE)
    return torch.load(f, map_location, **options)


def load_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
) -> Any:
    """Download a checkpoint unless it has been, and :func:`load` it.

    Arguments as for ``torch.hub.load_state_dict_from_url``.
    """
    folder = model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints')
    os.makedirs(folder, exist_ok=True)
    name = file_name or os.path.basename(urllib.parse.urlparse(url).path)
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        match = torch.hub.HASH_REGEX.search(name) if check_hash else None
        torch.hub.download_url_to_file(url, path, match and match.group(1), progress)
    return load(path, map_location)


@contextmanager
def _no_builtin_getattr() -> Iterator[None]:
    """Take the builtin off torch's list, where onedl-mmengine puts it: ours knows a few names."""
    allowed = torch.serialization.get_safe_globals()
    if getattr not in allowed:
        yield
        return
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([each for each in allowed if each is not getattr])
    try:
        yield
    finally:
        torch.serialization.add_safe_globals([getattr])


def _refuse_torchscript(f: str | os.PathLike | IO[bytes]) -> None:
    """Refuse a program, which ``torch.load`` hands over to ``torch.jit.load``."""
    inner: Any = torch.serialization
    with inner._open_file_like(f, 'rb') as file:
        start = file.tell()
        if inner._is_zipfile(file):
            with inner._open_zipfile_reader(file) as archive:
                if inner._is_torchscript_zip(archive):
                    raise pickle.UnpicklingError('a TorchScript program')
        file.seek(start)


class _Unpickler(pickle.Unpickler):
    """Python's, which finds what is on the lists and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        # torch writes pickles of protocol 2, with the names of Python 2.
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
        full_name = f'{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}'
        for allowed in (CHECKPOINT_TYPES, _OLD_TORCH_TYPES):
            if full_name in allowed:
                return allowed[full_name]
        raise pickle.UnpicklingError(f'GLOBAL {full_name} is not allowed')


def _restricted_load(file: IO[bytes], **options: Any) -> Any:
    return _Unpickler(file, **options).load()


_RESTRICTED_PICKLE = types.SimpleNamespace(
    __name__='restricted pickle', Unpickler=_Unpickler, load=_restricted_load
)


def _old_torch_types() -> dict[str, Any]:
    """Return what torch 2.6 allows, where torch is older."""
    if TORCH_RESTRICTS:
        return {}
    from torch._weights_only_unpickler import _get_allowed_globals

    return {
        **_get_allowed_globals(),
        '_codecs.encode': codecs.encode,  # how protocol 2 holds bytes
        'collections.Counter': Counter,
        'torch.device': torch.device,
        **{f'builtins.{each.__name__}': each for each in (bytearray, complex, set)},
        **{str(each): each for each in (torch.bfloat16, torch.bool, torch.uint8)},
    }


_OLD_TORCH_TYPES = _old_torch_types()
