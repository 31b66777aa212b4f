"""Calibrate a checkpoint: fit scale and shift of its logits, write them into a copy."""

from frlr_mm.commands.calibrate import main

if __name__ == '__main__':
    main()
