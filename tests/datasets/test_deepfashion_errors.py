"""What is wrong in the files of DeepFashion is named with its file and line."""

import pytest

from frlr_mm.datasets import DeepFashionAttribute
from tests.support.deepfashion_layout import make_labels, write_coarse, write_fine


@pytest.fixture
def root(tmp_path):
    write_coarse(tmp_path, make_labels())
    return tmp_path


def replace_line(path, number, change):
    lines = path.read_text().splitlines(keepends=True)
    lines[number - 1] = change(lines[number - 1])
    path.write_text(''.join(lines))


@pytest.mark.parametrize(
    ('kwargs', 'name'),
    [
        (dict(split='trainval'), 'split'),
        (dict(annotation='medium'), 'annotation'),
        (dict(unknown='ignore'), 'unknown'),
    ],
)
def test_refuses_bad_arguments(root, kwargs, name):
    with pytest.raises(ValueError, match=f'Expected `{name}` to be one of'):
        DeepFashionAttribute(**{'data_root': str(root), 'split': 'train', **kwargs})


IMG = 'Anno_coarse/list_attr_img.txt'
CLOTH = 'Anno_coarse/list_attr_cloth.txt'
BBOX = 'Anno_coarse/list_bbox.txt'
EVAL = 'Eval/list_eval_partition.txt'


@pytest.mark.parametrize(
    ('file', 'number', 'change', 'match'),
    [
        (IMG, 1, lambda _: '13\n', r'list_attr_img.txt:1: .* 12, but got \'13\''),
        (IMG, 6, lambda line: line.rsplit(None, 1)[0] + '\n', r':6: expected 7 labels, but got 6'),
        (IMG, 6, lambda line: line.rstrip() + ' -1\n', r':6: expected 7 labels, but got 8'),
        (IMG, 7, lambda line: line.split()[0] + '\n', r':7: expected 7 labels, but got 0'),
        (IMG, 9, lambda line: line.rstrip() + '1\n', r':9: expected labels of 1, -1 and 0'),
        (IMG, 9, lambda line: line.rstrip() + ' 2\n', r':9: expected labels of 1, -1 and 0'),
        (IMG, 9, lambda line: line.rstrip() + '-1\n', r':9: expected labels of 1, -1 and 0'),
        (IMG, 9, lambda line: line.rstrip() + ' -\n', r':9: expected labels of 1, -1 and 0'),
        (IMG, 9, lambda line: line.rstrip() + ' -0\n', r':9: expected labels of 1, -1 and 0'),
        (IMG, 9, lambda line: line.rstrip() + '\x02\n', r':9: expected labels of 1, -1 and 0'),
        (
            IMG,
            9,
            lambda line: line.replace('img_', 'x_'),
            r'list_attr_img.txt: expected a row for',
        ),
        (CLOTH, 4, lambda _: 'abstract print 1    6\n', r'attr_cloth.txt:4: .*type in \[1, 5\]'),
        (CLOTH, 4, lambda _: 'abstract print 0   1\n', r':4: .*twice'),
        (CLOTH, 1, lambda _: '1000\n', r'list_attr_cloth.txt:1: .* 7, but got \'1000\''),
        (
            EVAL,
            5,
            lambda line: line.replace('test', 'tset'),
            r'partition.txt:5: .*but got \'tset\'',
        ),
        (EVAL, 5, lambda line: line.split()[0] + '\n', r'partition.txt:5: expected 2 columns'),
        (EVAL, 3, lambda line: 'img/../../' + line, r'partition.txt:3: .*inside'),
        (
            BBOX,
            3,
            lambda line: line.rsplit(None, 1)[0] + '\n',
            r'list_bbox.txt:3: expected 5 columns',
        ),
        (BBOX, 3, lambda line: line.replace('003 020', '003 -20'), r'bbox.txt:3: .*whole numbers'),
        (
            BBOX,
            3,
            lambda line: line.replace('002 003', '072 003'),
            r'list_bbox.txt:3: .*x_1 <= x_2',
        ),
        (
            BBOX,
            3,
            lambda line: line.replace('002 003', '002 093'),
            r'list_bbox.txt:3: .*y_1 <= y_2',
        ),
        (BBOX, 3, lambda line: line.replace('img_', 'x_'), r'list_bbox.txt: expected a row for'),
        # Python refuses to read as many digits, and other scripts have digits too.
        (BBOX, 3, lambda line: line.replace('020', '2' * 5000), r'bbox.txt:3: .*whole numbers'),
        (BBOX, 3, lambda line: line.replace('020', '\u0662'), r'bbox.txt:3: .*whole numbers'),
        (CLOTH, 4, lambda _: f'abstract print 0 {"1" * 5000}\n', r'list_attr_cloth.txt:4: '),
    ],
)
def test_errors_name_file_and_line(root, file, number, change, match):
    replace_line(root / file, number, change)
    with pytest.raises(ValueError, match=match):
        DeepFashionAttribute(str(root), 'train', with_bbox=True)


@pytest.mark.parametrize('split', ['train', 'test'])
@pytest.mark.parametrize('file', [IMG, BBOX, EVAL])
def test_image_that_is_there_twice(root, file, split):
    """The same row again, and a row that says something else: here, an image of two splits."""
    first, last = (root / file).read_text().splitlines()[2::11]
    name = first.split()[0]
    for again in (first, last.replace(last.split()[0], name)):
        replace_line(root / file, 14, lambda _, again=again: again + '\n')
        with pytest.raises(ValueError, match=rf'{file}:14: the image {name} is there twice'):
            DeepFashionAttribute(str(root), split, with_bbox=True)


@pytest.mark.parametrize('file', [IMG, CLOTH, BBOX, EVAL])
def test_text_that_is_no_utf8(root, file):
    content = (root / file).read_bytes().splitlines(keepends=True)
    (root / file).write_bytes(b''.join([*content[:4], b'\xff' + content[4], *content[5:]]))
    with pytest.raises(ValueError, match=rf'{file}:5: expected UTF-8'):
        DeepFashionAttribute(str(root), 'train', with_bbox=True)


@pytest.mark.parametrize('file', [IMG, CLOTH, BBOX, EVAL])
def test_missing_file(root, file):
    (root / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        DeepFashionAttribute(str(root), 'train', with_bbox=True)


def test_missing_annotation_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='Anno_coarse or .*Anno'):
        DeepFashionAttribute(str(tmp_path), 'train')


@pytest.mark.parametrize(
    ('file', 'text', 'match'),
    [
        ('train_attr.txt', '1 0 1\n1 0\n', r'train_attr.txt:2: expected 3 labels, but got 2'),
        ('train_attr.txt', '1 0 1\n1 0 -1\n', r'train_attr.txt:2: .*got -1'),
        ('train_attr.txt', '1 0 1\n', r'train_attr.txt: expected a row for each of the 2 rows'),
        ('train_bbox.txt', '1 2 3 4\n', r'train_bbox.txt: expected a row for each of the 2 rows'),
        ('train_bbox.txt', '1 2 3 4\n1 2 3\n', r'train_bbox.txt:2: expected 4 columns'),
        ('train.txt', 'img/a.jpg\n../b.jpg\n', r'train.txt:2: .*inside'),
    ],
)
def test_fine_errors(tmp_path, file, text, match):
    write_fine(tmp_path, make_labels(2, 3, values=(1, 0)))
    (tmp_path / 'Anno_fine' / file).write_text(text)
    with pytest.raises(ValueError, match=match):
        DeepFashionAttribute(str(tmp_path), 'train', annotation='fine', with_bbox=True)
