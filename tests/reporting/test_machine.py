import subprocess
import sys

import torch

from frlr_mm.reporting.machine import _commit, describe, peak_memory


def git(folder, *args):
    identity = ('-c', 'user.name=a', '-c', 'user.email=a@b')
    command = ('git', *identity, *args)
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_commit_is_that_of_the_files_own_checkout(tmp_path):
    package, other = tmp_path / 'package' / 'machine.py', tmp_path / 'tools' / 'tool.py'
    for path in (package, other):
        path.parent.mkdir()
        path.write_text('a = 1\n')
    assert _commit(package) == 'unknown'
    git(tmp_path, 'init', '-q')
    git(tmp_path, 'add', 'tools')
    git(tmp_path, 'commit', '-qm', 'a')
    # An environment within the checkout of another project.
    assert _commit(package) == 'unknown'
    git(tmp_path, 'add', 'package')
    git(tmp_path, 'commit', '-qm', 'b')
    head = git(tmp_path, 'rev-parse', '--short', 'HEAD').strip()
    assert _commit(package) == head
    (tmp_path / 'notes.txt').write_text('a')
    assert _commit(package) == head
    other.write_text('a = 2\n')
    assert _commit(package) == f'{head}+changes'


def test_describe():
    about = describe('cpu')
    assert about['device'] == 'cpu' and about['threads'] == torch.get_num_threads()
    assert about['torch'] == torch.__version__ and sys.version.startswith(about['python'])
    assert about['machine'] and about['cores'] >= 1


def test_peak_memory_counts_what_is_held_at_the_same_time():
    def one_after_the_other():
        torch.zeros(1000)
        torch.zeros(500)

    def together():
        first = torch.zeros(1000)
        return first, torch.zeros(500)

    assert peak_memory(one_after_the_other, 'cpu') == 4000
    assert peak_memory(together, 'cpu') == 6000
