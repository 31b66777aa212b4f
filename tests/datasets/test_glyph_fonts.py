"""Glyphs of any fonts and characters: here of fonts other than DejaVu that matplotlib carries."""

import re
import shutil
import struct
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from frlr_mm.datasets.glyphs._drawing import render_glyph
from frlr_mm.datasets.glyphs._fonts import read_fonts, shared_characters
from tests.support.glyph_cases import images, load

FOLDER = Path(matplotlib.get_data_path(), 'fonts', 'ttf')
FACES = ('STIXGeneral', 'cmr10', 'STIXGeneralBol')
FONTS = [str(FOLDER / f'{face}.ttf') for face in FACES]


def load_own(data_root, split='train', **kwargs):
    settings = dict(num_classes=None, fonts=FONTS, characters='zaQ7') | kwargs
    return load(data_root, split, **settings)


def draw(paths, characters, stream):
    """Return images of two samples each, from the random numbers that the docstring states."""
    found = []
    for character in characters:
        for font in read_fonts(paths).values():
            rng = np.random.default_rng((0, stream, int(font.sha256[:16], 16), ord(character)))
            found += [render_glyph(character, font.open(40), rng) for _ in range(2)]
    return np.stack(found)


@pytest.mark.parametrize(
    ('task', 'split', 'stream', 'shown'),
    [
        ('categories', 'train', 4, 'zbacQd7e'),
        ('categories', 'test', 3, 'zbacQd7e'),
        ('identification', 'train', 4, 'zaQ7'),
        ('identification', 'gallery', 3, 'bcde'),
        ('attributes', 'val', 5, 'zaQ'),
    ],
)
def test_images_of_each_task(tmp_path, task, split, stream, shown):
    dataset = load_own(tmp_path, split, task=task, characters=list('zbacQd7e'))
    assert dataset.characters == tuple(shown)
    assert task == 'attributes' or dataset.metainfo['classes'] == tuple(shown)
    expected = draw(FONTS, shown, stream)
    # The first image per character and face is the query.
    expected = expected[1::2] if split == 'gallery' else expected
    np.testing.assert_array_equal(images(dataset)[..., 0], expected)
    per_face = len(expected) // len(shown) // len(FACES)
    assert [item['face'] for item in dataset] == [
        face for _ in shown for face in FACES for _ in range(per_face)
    ]
    if task == 'identification':
        assert [dataset[i]['camera_id'] for i in range(0, 3 * per_face, per_face)] == [0, 1, 2]


def test_held_out_faces_and_other_fonts_beside_them_give_the_same_images(tmp_path):
    kept = load_own(tmp_path, faces=['cmr10', 'STIXGeneralBol'])
    np.testing.assert_array_equal(images(kept)[..., 0], draw(FONTS[1:], 'zaQ7', 4))
    other_order = load_own(tmp_path, fonts=[FONTS[2], FONTS[1]])
    assert other_order.cache_file != kept.cache_file
    np.testing.assert_array_equal(images(other_order)[:2], images(kept)[2:4])


def test_cache_follows_the_contents_of_a_font_not_its_place(tmp_path):
    for folder, source in (('a', FONTS[0]), ('b', FONTS[0]), ('c', FONTS[2])):
        (tmp_path / folder).mkdir()
        shutil.copy(source, tmp_path / folder / 'font.ttf')
    a, b, c = (
        load_own(tmp_path, fonts=[tmp_path / folder / 'font.ttf'], lazy_init=True).cache_file
        for folder in 'abc'
    )
    assert a == b != c


def test_characters_that_the_fonts_share(tmp_path):
    dataset = load_own(tmp_path, characters=None, fonts=FONTS[::2], lazy_init=True)
    assert dataset.characters == shared_characters(tuple(read_fonts(FONTS[::2]).values()))
    assert {*'azQ7Ω'} < set(dataset.characters) and ' ' not in dataset.characters
    few = load_own(tmp_path, characters=None, num_classes=5, lazy_init=True)
    assert few.characters == tuple('!"#$%')


def test_characters_of_the_built_in_faces(tmp_path):
    """They look as they do among all others."""
    whole, chosen = load(tmp_path, num_classes=6), load(tmp_path, characters='&$"', num_classes=3)
    assert whole.CLASSES[1:6:2] == ('"', '$', '&') and chosen.CLASSES == ('&', '$', '"')
    parts = images(whole).reshape(6, -1, 32 * 32 * 3)
    np.testing.assert_array_equal(images(chosen).reshape(3, -1, 32 * 32 * 3), parts[5:0:-2])


def test_collection(tmp_path):
    """Of a .ttc the first font is drawn."""
    data = bytearray(Path(FONTS[0]).read_bytes())
    (num_tables,) = struct.unpack_from('>H', data, 4)
    for record in range(12, 12 + 16 * num_tables, 16):
        (offset,) = struct.unpack_from('>I', data, record + 8)
        struct.pack_into('>I', data, record + 8, offset + 16)
    path = tmp_path / 'both.ttc'
    path.write_bytes(struct.pack('>4sIII', b'ttcf', 0x00010000, 1, 16) + data)
    dataset = load_own(tmp_path, fonts=[path])
    assert dataset.faces == ('both',)
    np.testing.assert_array_equal(images(dataset)[..., 0], draw([path], 'zaQ7', 4))
    one, other = read_fonts([path])['both'], read_fonts(FONTS)['STIXGeneral']
    drawn = [render_glyph('Q', f.open(40), np.random.default_rng(0)) for f in (one, other)]
    np.testing.assert_array_equal(*drawn)


def test_bad_fonts(tmp_path):
    shutil.copy(FONTS[0], tmp_path / 'cmr10.otf')
    (tmp_path / 'text.ttf').write_text('not a font')
    for fonts, error, message in (
        ([*FONTS, tmp_path / 'cmr10.otf'], ValueError, f'{FONTS[1]} and {tmp_path}/cmr10.otf'),
        ([FONTS[0], tmp_path / 'text.ttf'], ValueError, f'{tmp_path}/text.ttf to be a TrueType'),
        # Not looked for among the fonts of the system, either.
        (['DejaVuSans.ttf'], FileNotFoundError, 'DejaVuSans.ttf is missing'),
        ([], ValueError, '`fonts` to be a sequence of font files, but got []'),
        (FONTS[0], ValueError, f"`fonts` to be a sequence of font files, but got '{FONTS[0]}'"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            load_own(tmp_path / 'data', fonts=fonts)
    with pytest.raises(ValueError, match=r"`faces` to be some of .*cmr10.*, but got \('arial',\)"):
        load_own(tmp_path / 'data', faces=['arial'])
    assert not (tmp_path / 'data').exists()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(characters='aΩЖ'), r"cmr10 \(.*\) to have all 3 .* lacks 2: 'Ω' \(U\+03A9\), 'Ж'"),
        (dict(characters='a丁丂七丄丅丆万'), r'lacks 7: .*, \.\.\.$'),
        (dict(characters='aba'), r"`characters` once, but 'a' \(U\+0061\) is there twice"),
        (dict(characters=['a', 'bc']), "single characters, but got 'bc'"),
        (dict(characters='a '), r"leaves ink, but ' ' \(U\+0020\) in .*STIXGeneral.ttf' is blank"),
        (dict(characters='a'), r'`num_classes` to be an int in \[2, 1\], but got 1'),
        (dict(num_classes=5), r'`num_classes` to be an int in \[2, 4\], but got 5'),
        (dict(characters='za', task='attributes'), "none of the 2 belongs to 'train'"),
        (dict(fonts=None, characters='a丁'), r"DejaVuSans \(.*\) .* lacks 1: '丁' \(U\+4E01\)$"),
    ],
)
def test_bad_characters(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        load_own(tmp_path, **settings)
    assert not list(tmp_path.iterdir())
