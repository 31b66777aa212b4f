"""``python -m frlr_mm`` and ``torchrun -m frlr_mm``: the console command ``frlr``."""

from .cli import main

main()
