"""Fuzz a reader of annotation files: python tests/fuzz/fuzz_readers.py READER [OPTIONS].

Whatever the bytes of a file are, a reader may return rows or raise a ValueError that names the
file; anything else is a finding, and so is a hang or more memory than the limit that `make fuzz`
sets. It needs atheris, which `make fuzz` installs.
"""

import codecs
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=['frlr_mm.datasets']):
    from frlr_mm.datasets import MSMT17, FashionProducts, TinyImageNet
    from frlr_mm.datasets import _deepfashion_files as deepfashion
    from frlr_mm.datasets._files import check_image_name

NUM_ATTRIBUTES = 3
WNID, IMAGE, PRODUCT = 'n01443537', 'val_0.JPEG', '1163.jpg'


def read_attributes(root: Path, file: Path) -> None:
    names = deepfashion.read_attribute_names(file, ('texture', 'part'))
    assert all(name.strip() == name and name for name in names)
    assert set(names.values()) <= {'texture', 'part'}


def read_boxes(root: Path, file: Path) -> None:
    for number, (name, *box) in deepfashion.read_columns(file, ('image', *'abcd'), True):
        path = (root / check_image_name(file, number, name)).resolve()
        assert path.is_relative_to(root)
        x_1, y_1, x_2, y_2 = deepfashion.parse_box(file, number, box)
        assert 0 <= x_1 <= x_2 and 0 <= y_1 <= y_2


def read_labels(root: Path, file: Path, has_names: bool) -> None:
    rows = list(deepfashion.read_labels(file, NUM_ATTRIBUTES, has_names))
    text = file.read_bytes().removeprefix(codecs.BOM_UTF8)
    lines = text.split(b'\n')[2 * has_names :]
    lines = [line.split() for line in lines if line.strip()]
    for (_, name, positive, unknown), fields in zip(rows, lines, strict=True):
        expected = [int(label) for label in fields[has_names:]]
        assert name == (fields[0].decode() if has_names else '')
        assert len(expected) == NUM_ATTRIBUTES
        assert positive.tolist() == [i for i, label in enumerate(expected) if label == 1]
        if has_names:
            assert unknown.tolist() == [i for i, label in enumerate(expected) if label == 0]


def read_msmt17(root: Path, file: Path) -> None:
    for path, person_id, camera_id in MSMT17_QUERY.read_split(root, 'query'):
        assert path.resolve().is_relative_to(root / 'mask_test_v2')
        assert 0 <= person_id < 10**9 and 1 <= camera_id <= 15


def read_tiny_imagenet(root: Path, file: Path) -> None:
    for name, content in (('wnids.txt', f'{WNID}\n'), ('val/val_annotations.txt', '')):
        if root / name != file:
            (root / name).write_text(content)
    for info in TinyImageNet(str(root), 'val', lazy_init=True).load_data_list():
        assert Path(info['img_path']).resolve() == root / 'val/images' / IMAGE
        assert info['gt_label'] == 0


def read_fashion_products(root: Path, file: Path) -> None:
    for split in ('train', 'val', 'test'):
        dataset = FashionProducts(str(root), split, min_products=1, lazy_init=True)
        for info in dataset.load_data_list():
            assert Path(info['img_path']).resolve() == root / 'images' / PRODUCT
            assert len(info['gt_label']) + len(info.get('gt_unknown', ())) > 0


MSMT17_QUERY = MSMT17('query', '', lazy_init=True)
# Each reader, the file that it reads, and what that file may hold.
READERS = {
    'deepfashion-attributes': (
        read_attributes,
        'list_attr_cloth.txt',
        b'2\nname  type\na-line      1\nshiny knit 2\n',
    ),
    'deepfashion-boxes': (
        read_boxes,
        'list_bbox.txt',
        b'2\nimage_name  x_1 y_1 x_2 y_2\nimg/A/img_1.jpg   002 003 020 031\n../b  1 1 1 1\n',
    ),
    'deepfashion-labels': (
        lambda root, file: read_labels(root, file, has_names=True),
        'list_attr_img.txt',
        b'2\nimage_name  attribute_labels\nimg/A/img_1.jpg    -1  1  0\nb 1 1 1\n',
    ),
    'deepfashion-fine-labels': (
        lambda root, file: read_labels(root, file, has_names=False),
        'train_attr.txt',
        b'1 0 0\n0 1 1\n',
    ),
    'msmt17': (
        read_msmt17,
        'list_query.txt',
        b'0000/0000_005_09_0303morning_0020_0.jpg 0\n0003/0003_000_14_0302noon_0001_1_ex.jpg 3\n',
    ),
    'tiny_imagenet-classes': (read_tiny_imagenet, 'wnids.txt', b'n01443537\nn02124075\n'),
    'tiny_imagenet-val': (
        read_tiny_imagenet,
        'val/val_annotations.txt',
        b'val_0.JPEG\tn01443537\t0\t32\t44\t62\n',
    ),
    'fashion_products': (
        read_fashion_products,
        'styles.csv',
        b'id,masterCategory,subCategory,articleType,baseColour,usage,productDisplayName\n'
        b'1163,Apparel,Topwear,Tshirts,Blue,,"Jersey, blue"\n',
    ),
}


def check(reader: str, root: Path, data: bytes) -> None:
    """Raise unless the reader returns rows or raises what it may."""
    read, name, _ = READERS[reader]
    file = root / name
    file.write_bytes(data)
    try:
        read(root, file)
    except ValueError as error:
        if str(file) not in str(error):
            raise


def main() -> None:
    if sys.argv[1:] == ['--list']:
        print(*READERS)
        return
    if len(sys.argv) < 2 or sys.argv[1] not in READERS:
        sys.exit(f'usage: {sys.argv[0]} READER [libFuzzer options]; readers: {" ".join(READERS)}')
    reader = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as folder:
        root, corpus = Path(folder).resolve() / 'root', Path(folder, 'corpus')
        for needed in (corpus, root / 'mask_test_v2', root / 'val/images', root / 'images'):
            needed.mkdir(parents=True)
        (root / 'val/images' / IMAGE).touch()
        (root / 'images' / PRODUCT).touch()
        (corpus / 'seed').write_bytes(READERS[reader][2])
        atheris.Setup([*sys.argv, str(corpus)], lambda data: check(reader, root, data))
        atheris.Fuzz()


if __name__ == '__main__':
    main()
