"""Run a part of the tests on one of the stacks that README names: python run.py forks.

Each stack has an environment of its own in build/stacks, which is made anew where what it is made
from has changed. What is installed and what came out is written to build/stacks/<stack>.txt.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The interpreter, the extras, the constraints; where there are none, the latest releases.
STACKS = {
    'pinned': ('python3.11', 'mmpretrain,export', 'constraints.txt'),
    'forks': ('python3.11', 'onedl,export', 'tests/stacks/forks.txt'),
    'oldest': ('python3.10', 'mmpretrain', 'tests/stacks/oldest.txt'),
    'newest': ('python3.13', 'mmpretrain,export', None),
}
TOOLS = ['hypothesis', 'packaging', 'pytest', 'pytest-timeout', 'scikit-learn']
# The losses, the heads, the hooks; training, resuming, two processes, testing, inference.
TESTS = [
    'tests/test_compat.py',
    'tests/test_import.py',
    'tests/functional',
    'tests/models',
    'tests/engine',
    'tests/evaluation',
    'tests/tools/test_hostile_checkpoints.py',
    'tests/tools/test_interruptions.py',
    'tests/tools/test_launchers.py',
    'tests/tools/test_train_and_test.py',
]
# What torch 2.1 cannot do: trace a dataclass, fake a CUDA device where there is no driver, export,
# DTensors under their public name, counting memory on meta tensors and what collectives send. Its
# Triton is too old for the kernels.
BEYOND_OLDEST = [
    '-k=not compile and not mixes_no_devices',
    '--ignore=tests/engine/test_export.py',
    '--ignore=tests/functional/test_dtensor.py',
    '--ignore=tests/functional/test_traffic.py',
    '--ignore=tests/functional/test_triton.py',
    '--deselect=tests/functional/test_sharded_linear.py'
    '::test_traffic_is_that_of_the_features_whatever_k_and_the_number_of_classes',
]


def make_environment(stack: str) -> Path:
    """Return the interpreter of a stack's environment, made if need be."""
    python, extra, constraints = STACKS[stack]
    folder = ROOT / 'build/stacks' / stack
    names = [constraints] if constraints else []
    sources = [ROOT / name for name in ('pyproject.toml', *names)]
    contents = [extra.encode(), *(path.read_bytes() for path in sources)]
    state = hashlib.sha256(b''.join(contents)).hexdigest()
    stamp = folder / '.installed'
    interpreter = folder / 'bin/python'
    if stamp.is_file() and stamp.read_text() == state:
        return interpreter
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, '-m', 'venv', folder], check=True)
    install = [interpreter, '-m', 'pip', 'install', '--quiet']
    # Not the tools that look at the source: `make test` runs them.
    install += ['--editable', f'.[{extra}]', *TOOLS]
    install += ['--constraint', constraints] if constraints else []
    subprocess.run(install, cwd=ROOT, check=True)
    stamp.write_text(state)
    return interpreter


def main() -> None:
    (stack,) = sys.argv[1:]
    interpreter = make_environment(stack)
    command = [interpreter, '-m', 'pytest', '--quiet', *TESTS]
    if stack == 'oldest':
        command += BEYOND_OLDEST
    # The environment's own scripts come first, torchrun among them.
    path = f'{interpreter.parent}{os.pathsep}{os.environ["PATH"]}'
    environment = {**os.environ, 'PATH': path, 'OMP_NUM_THREADS': '1'}
    summary = ''
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE
    ) as tests:
        for line in tests.stdout:
            print(line, end='', flush=True)
            summary = line.strip() or summary
    list_packages = [interpreter, '-m', 'pip', 'list', '--format=freeze']
    packages = subprocess.run(list_packages, text=True, stdout=subprocess.PIPE, check=True).stdout
    version = subprocess.run([interpreter, '-V'], text=True, stdout=subprocess.PIPE, check=True)
    report = f'{stack}, {date.today()}: {summary}\n\n{version.stdout}{packages}'
    (ROOT / 'build/stacks' / f'{stack}.txt').write_text(report)
    print(report.splitlines()[0])
    sys.exit(tests.returncode)


if __name__ == '__main__':
    main()
