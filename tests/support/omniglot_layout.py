"""A small Omniglot in the official layout."""

from pathlib import Path

import numpy as np
from PIL import Image

# Folder, alphabet, character and its id; ids do not follow the names, as in the official archives.
CHARACTERS = [
    ('images_background', 'Greek', 'character01', 394),
    ('images_background', 'Greek', 'character02', 395),
    ('images_background', 'Arcadian', 'character01', 13),
    ('images_evaluation', 'Angelic', 'character01', 965),
    ('images_evaluation', 'Angelic', 'character02', 966),
]


def write_omniglot(root: Path, size: int = 105) -> None:
    """Write all twenty drawings of five characters, of 1 bit, dark on white."""
    for folder, alphabet, character, character_id in CHARACTERS:
        path = root / folder / alphabet / character
        path.mkdir(parents=True)
        for drawer in range(1, 21):
            pixels = np.full((size, size), 255, np.uint8)
            pixels[character_id % size, drawer:] = 0
            Image.fromarray(pixels).convert('1').save(
                path / f'{character_id:04d}_{drawer:02d}.png'
            )
