"""A small Fashion Product Images in the official layout."""

from pathlib import Path

import numpy as np
from PIL import Image

HEADER = (
    'id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,'
    'productDisplayName'
)


def row(product_id: int, colour: str, usage: str, article: str = 'Shirts') -> str:
    """Return a row of the table."""
    return (
        f'{product_id},Men,Apparel,Topwear,{article},{colour},Fall,2011,{usage},'
        f'"Turtle, {colour} {article}"'
    )


def write_fashion(root: Path, num: int = 40) -> None:
    """Write products that are blue and white in turn; every fifth has no usage.

    The last row has a comma that is not quoted, as some of the official file.
    """
    rows = [row(1000 + i, ('Blue', 'White')[i % 2], 'Casual' * (i % 5 > 0)) for i in range(num)]
    rows[-1] = rows[-1].replace('"', '')
    (root / 'styles.csv').write_text('\n'.join([HEADER, *rows]) + '\n')
    (root / 'images').mkdir()
    for i in range(num):
        pixels = np.full((80, 60, 3), 255 - i, np.uint8)
        Image.fromarray(pixels).save(root / 'images' / f'{1000 + i}.jpg')
