"""Fashion Product Images (small): clothing attributes from a table of products."""

import csv
import io
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import DATASETS

from .._checks import check_choice, check_int
from ._files import decode_line, list_images, open_text
from ._multi_label import SPLITS, SparseMultiLabelDataset, checksum_split

COLUMNS = ('masterCategory', 'subCategory', 'articleType', 'baseColour', 'usage')
_TABLE = 'styles.csv'
# The last column, whose commas are not quoted in some rows of the official file.
_NAME_COLUMN = 'productDisplayName'

Product = dict[str, str]


@DATASETS.register_module()
class FashionProducts(SparseMultiLabelDataset):
    """Fashion Product Images (small): several labels per product, one of each type or unknown.

    ::

        data_root
        ├── styles.csv
        └── images
            └── 1163.jpg

    A label is a value of a column of ``styles.csv``, which is its type. A product whose cell is
    empty has unknown labels of that type. No split is official: a checksum of the id puts about 70
    % of the products into 'train', 10 % into 'val' and 20 % into 'test'.

    Args:
        data_root (str): The folder of the data set.
        split (str): 'train', 'val' or 'test'.
        columns (Sequence[str]): The columns whose values are labels. Defaults to
            ('masterCategory', 'subCategory', 'articleType', 'baseColour', 'usage').
        min_products (int): A value of fewer products, over all splits, is not a label, >= 1.
            Defaults to 20.
        unknown (str): What becomes of unknown labels: 'keep', or 'negative' for losses that know
            none. Defaults to 'keep'.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Each item that the pipeline gets holds ``img_path``, str, ``gt_label``, the indices of the
    positive labels, and ``gt_score``, float32 (C,): 1, 0, and -1 where unknown. C is 175 for the
    44,072 products of the copy that the results are of. The meta information holds ``classes``,
    such as 'articleType: Shirts', and ``attribute_types``, the column of each. Rows without an
    image, of which the official file has some, are left out; the log says how many.

    Raises:
        ValueError: If an argument is out of its range, a column is missing, or a row is wrong.
        FileNotFoundError: If the table or the folder of the images is missing.

    Source: Aggarwal, "Fashion Product Images (Small)", kaggle.com, 2019.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        columns: Sequence[str] = COLUMNS,
        min_products: int = 20,
        unknown: str = 'keep',
        **kwargs: Any,
    ) -> None:
        check_choice('split', split, SPLITS)
        check_choice('unknown', unknown, ('keep', 'negative'))
        if isinstance(columns, str) or not columns or len(set(columns)) < len(columns):
            raise ValueError(
                f'Expected `columns` to be different names of columns, but got {columns!r}'
            )
        check_int('min_products', min_products, 1)
        self.split = split
        self.columns = tuple(columns)
        self.min_products = min_products
        self.unknown = unknown
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return what the pipeline gets per image, ``gt_score`` left out."""
        folder = Path(self.data_root, 'images')
        if not folder.is_dir():
            raise FileNotFoundError(f'FashionProducts expected the folder {folder}')
        names = {Path(name).stem: name for name in list_images(folder, ('.jpg',))}
        products = self._read_products(names)
        labels = self._number_labels(products)
        self._metainfo.setdefault('classes', tuple(f'{kind}: {name}' for kind, name in labels))
        self._metainfo.setdefault('attribute_types', tuple(kind for kind, _ in labels))
        return [
            self._info(str(folder / names[product['id']]), product, labels)
            for product in products
            if checksum_split(product['id']) == self.split
        ]

    def _read_products(self, images: dict[str, str]) -> list[Product]:
        """Return the rows of the products that have an image."""
        path = Path(self.data_root, _TABLE)
        if not path.is_file():
            raise FileNotFoundError(f'FashionProducts expected the file {path}')
        products: dict[str, Product] = {}
        rows = _read_rows(path)
        _, header = next(rows, (1, []))
        self._check_header(path, header)
        for number, row in rows:
            if not row:
                continue
            product = _read_row(path, number, header, row)
            if product['id'] in products:
                raise ValueError(f'{path}:{number}: the product {product["id"]} is there twice')
            products[product['id']] = product
        found = [product for product in products.values() if product['id'] in images]
        num_without = len(products) - len(found)
        if not found:
            raise ValueError(f'{path}: expected products with an image, but none has one')
        if num_without:
            print_log(
                f'{path}: {num_without:,} of {len(products):,} products have no image and are '
                'left out',
                'current',
                logging.WARNING,
            )
        return found

    def _check_header(self, path: Path, header: list[str]) -> None:
        missing = [name for name in ('id', *self.columns) if name not in header]
        if missing:
            raise ValueError(
                f'{path}:1: expected the columns id, {", ".join(self.columns)}, but '
                f'{", ".join(missing)} is missing: got {header}'
            )

    def _number_labels(self, products: list[Product]) -> dict[tuple[str, str], int]:
        """Return the index of each label, by column and value: columns in order, values sorted."""
        found: list[tuple[str, str]] = []
        for column in self.columns:
            counts = Counter(product[column] for product in products if product[column])
            found += [
                (column, name) for name in sorted(counts) if counts[name] >= self.min_products
            ]
        if not found:
            raise ValueError(
                f'{Path(self.data_root, _TABLE)}: expected values that at least `min_products` = '
                f'{self.min_products} products have, but there are none'
            )
        return {label: index for index, label in enumerate(found)}

    def _info(self, path: str, product: Product, labels: dict[tuple[str, str], int]) -> dict:
        pairs = [(column, product[column]) for column in self.columns]
        info: dict = dict(
            img_path=path, gt_label=[labels[pair] for pair in pairs if pair in labels]
        )
        empty = {column for column, value in pairs if not value}
        if self.unknown == 'keep' and empty:
            info['gt_unknown'] = [i for (column, _), i in labels.items() if column in empty]
        return info

    def extra_repr(self) -> list[str]:
        """Return the lines that ``print(dataset)`` adds."""
        return [f'Split: \t{self.split}', f'Unknown labels: \t{self.unknown}']


def _read_lines(path: Path) -> Iterator[str]:
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            # A carriage return alone ends a line as well.
            yield from io.StringIO(decode_line(path, number, line), newline='')


def _read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows, each with the number of its first line."""
    reader = csv.reader(_read_lines(path), strict=True)
    while True:
        # The first line, since a quote that is left open shows up lines later.
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f'{path}:{number}: expected a row of CSV, its quotes closed, but got: {error}'
            ) from error
        yield number, row


def _read_row(path: Path, number: int, header: list[str], row: list[str]) -> Product:
    is_long = len(row) > len(header) and header[-1] == _NAME_COLUMN
    if len(row) != len(header) and not is_long:
        raise ValueError(f'{path}:{number}: expected {len(header)} columns, but got {len(row)}')
    product = {name: value.strip() for name, value in zip(header, row, strict=False)}
    if not (product['id'].isascii() and product['id'].isdigit()):
        raise ValueError(
            f'{path}:{number}: expected a number for an id, but got {product["id"]!r}'
        )
    return product
