"""Files are whole or not there."""

import os

import pytest
import torch
from mmengine.fileio import dump, get_file_backend, put_text

import frlr_mm  # noqa: F401 (registers the backend)
from frlr_mm.engine.checkpoints import (
    AtomicLocalBackend,
    find_damage,
    find_latest_whole_checkpoint,
    read_meta,
)
from tests.support.processes import run_ranks


def save(path, iteration=1, epoch=0):
    meta = dict(iter=iteration, epoch=epoch)
    torch.save(dict(weight=torch.arange(1000.0), meta=meta), path)
    return path


def test_mmengine_writes_by_the_backend(tmp_path):
    assert type(get_file_backend(str(tmp_path))) is AtomicLocalBackend
    dump(dict(a=1), str(tmp_path / 'new' / 'metrics.json'))
    put_text('é', str(tmp_path / 'text'))
    assert (tmp_path / 'text').read_text(encoding='utf-8') == 'é'
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['metrics.json']


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), KeyboardInterrupt()])
def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch, error):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(b'old')

    def fail(*args):
        raise error

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(type(error)) as raised:
        AtomicLocalBackend().put(b'new', path)
    assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]
    if isinstance(error, OSError):
        assert str(path) in str(raised.value)


def test_half_a_file_under_the_temporary_name_is_in_nobodys_way(tmp_path):
    # What a kill while writing leaves behind.
    save(tmp_path / 'epoch_1.pth')
    (tmp_path / 'epoch_2.tmp0.pth').write_bytes(b'half')
    assert find_latest_whole_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_1.pth')
    AtomicLocalBackend().put(b'whole', tmp_path / 'epoch_2.pth')
    assert (tmp_path / 'epoch_2.pth').read_bytes() == b'whole'
    assert not (tmp_path / 'epoch_2.tmp0.pth').exists()


def test_writes_to_a_device_as_ever():
    AtomicLocalBackend().put(b'', '/dev/null')
    assert not os.path.isfile('/dev/null')


def test_every_truncation_is_found(tmp_path):
    path = save(tmp_path / 'epoch_1.pth')
    assert find_damage(path) is None
    data = path.read_bytes()
    for length in (0, 1, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        assert find_damage(path) in ('empty', 'truncated or not a checkpoint')
    # A flipped bit in the middle of a tensor: the length is right, the checksum is not.
    place = data.index(torch.arange(1000.0).numpy().tobytes()) + 2000
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    assert find_damage(path).startswith('damaged at ')


def test_newest_whole_checkpoint(tmp_path, caplog):
    """The iteration inside decides, neither names nor the times of files."""
    assert find_latest_whole_checkpoint(str(tmp_path)) is None
    os.utime(save(tmp_path / 'epoch_9.pth', 10), (3e9, 3e9))
    os.utime(save(tmp_path / 'interrupted.pth', 25), (1, 1))
    save(tmp_path / 'epoch_2.pth', 20)
    save(tmp_path / 'best_top1_epoch_3.pth', 30)  # has no optimizer
    (tmp_path / 'epoch_3.pth').write_bytes((tmp_path / 'epoch_2.pth').read_bytes()[:-9])
    latest = find_latest_whole_checkpoint(str(tmp_path))
    assert latest == str(tmp_path / 'interrupted.pth')
    damaged = bytearray((tmp_path / 'interrupted.pth').read_bytes())
    damaged[len(damaged) // 2] ^= 1  # in the tensor: what it says of itself is whole
    (tmp_path / 'interrupted.pth').write_bytes(damaged)
    assert find_latest_whole_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_2.pth')


def test_checkpoints_of_another_folder(tmp_path):
    """CheckpointHook(out_dir=...) writes elsewhere, under a name of the user's own at times."""
    work_dir, other = tmp_path / 'run', tmp_path / 'out'
    work_dir.mkdir(), other.mkdir()
    save(work_dir / 'epoch_1.pth', 10)
    save(other / 'mine_2.pth', 20)
    (work_dir / 'last_checkpoint').write_text(str(other / 'mine_2.pth'))
    assert find_latest_whole_checkpoint(str(work_dir)) == str(other / 'mine_2.pth')
    save(other / 'epoch_3.pth', 30)
    assert find_latest_whole_checkpoint(str(work_dir)) == str(other / 'epoch_3.pth')
    (work_dir / 'last_checkpoint').write_text(str(tmp_path / 'gone' / 'epoch_9.pth'))
    assert find_latest_whole_checkpoint(str(work_dir)) == str(work_dir / 'epoch_1.pth')


def test_interrupted_at_the_iteration_of_another(tmp_path):
    """In the validation it is ahead, before the end of the epoch it is not."""
    for name in ('iter_20.pth', 'interrupted.pth'):
        save(tmp_path / name, 20, epoch=1)
    assert find_latest_whole_checkpoint(str(tmp_path)) == str(tmp_path / 'interrupted.pth')
    save(tmp_path / 'epoch_2.pth', 20, epoch=2)
    assert find_latest_whole_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_2.pth')
    save(tmp_path / 'interrupted.pth', 20, epoch=2)
    assert find_latest_whole_checkpoint(str(tmp_path)) == str(tmp_path / 'interrupted.pth')


@pytest.mark.parametrize('text', ['', '\n', '{other}', '{other}/epo', '{other}/gone.pth', '\0'])
def test_last_checkpoint_that_names_no_file(tmp_path, monkeypatch, text):
    """No other folder is looked in, neither the current one nor one that is part of the name."""
    work_dir, other = tmp_path / 'run', tmp_path / 'other'
    work_dir.mkdir(), other.mkdir()
    save(work_dir / 'epoch_1.pth', 10)
    save(other / 'epoch_9.pth', 90)
    monkeypatch.chdir(other)
    (work_dir / 'last_checkpoint').write_text(text.format(other=other))
    assert find_latest_whole_checkpoint(str(work_dir)) == str(work_dir / 'epoch_1.pth')


def test_older_run_in_the_same_folder(tmp_path, monkeypatch):
    texts = []
    log = 'frlr_mm.engine.checkpoints.print_log'
    monkeypatch.setattr(log, lambda text, *_, **kwargs: texts.append(text))
    old, new = save(tmp_path / 'epoch_10.pth', 100, 10), save(tmp_path / 'epoch_3.pth', 30, 3)
    (tmp_path / 'last_checkpoint').write_text(str(old))
    assert find_latest_whole_checkpoint(str(tmp_path)) == str(old) and not texts
    (tmp_path / 'last_checkpoint').write_text(str(new))
    assert find_latest_whole_checkpoint(str(tmp_path)) == str(old)
    (text,) = texts
    assert text.startswith(f'{old} is resumed from, but last_checkpoint names {new}, which')
    # One that cannot be resumed is no reason to warn.
    data = bytearray(new.read_bytes())
    data[len(data) // 2] ^= 1
    new.write_bytes(data)
    assert find_latest_whole_checkpoint(str(tmp_path)) == str(old) and len(texts) == 1


@pytest.mark.parametrize(
    'content', [dict(state_dict={}), dict(meta='text'), [1, 2], dict(meta=dict(seed=3))]
)
def test_what_a_checkpoint_says_of_itself(tmp_path, content):
    torch.save(content, tmp_path / 'epoch_1.pth')
    meta = read_meta(tmp_path / 'epoch_1.pth')
    assert meta == (dict(seed=3) if content == dict(meta=dict(seed=3)) else {})
    (tmp_path / 'epoch_1.pth').write_bytes(b'half')
    assert read_meta(tmp_path / 'epoch_1.pth') == {}


def write_again_and_again(rank, world_size):
    for i in range(300):
        AtomicLocalBackend().put(b'%d' % i * 1000, 'metrics.json')
    return True


def test_ranks_write_one_file(tmp_path):
    assert run_ranks(write_again_and_again, 4, tmp_path) == [True] * 4
    assert (tmp_path / 'metrics.json').read_bytes() == b'299' * 1000
    assert not list(tmp_path.glob('*tmp*'))
