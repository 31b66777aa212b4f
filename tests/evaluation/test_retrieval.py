import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from frlr_mm.evaluation import retrieval as reid
from frlr_mm.evaluation.retrieval import Embeddings, evaluate_reid, rank_gallery
from tests.support import references_reid

TOPK = (1, 5, 10, 20)


def make_images(num_images, num_persons=6, num_cameras=3, length=8, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return Embeddings(
        torch.randn(num_images, length, generator=rng),
        torch.randint(num_persons, (num_images,), generator=rng),
        torch.randint(num_cameras, (num_images,), generator=rng),
    )


def at_angles(angles, person_ids, camera_ids):
    """Images whose similarity to the one at angle 0 falls with the angle."""
    angles = torch.tensor(angles)
    return Embeddings(
        torch.stack([angles.cos(), angles.sin()], dim=1),
        torch.tensor(person_ids),
        torch.tensor(camera_ids),
    )


def one_query(is_match):
    """A query of person 1, and a gallery of another camera in the order of its similarity."""
    angles = [0.1 * (i + 1) for i in range(len(is_match))]
    gallery = at_angles(angles, [int(match) for match in is_match], [1] * len(is_match))
    return at_angles([0.0], [1], [0]), gallery


def to_lists(images):
    features, person_ids, camera_ids = (tensor.tolist() for tensor in images)
    return list(zip(features, person_ids, camera_ids, strict=True))


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize(('num_queries', 'num_gallery'), [(1, 37), (13, 1), (29, 71)])
def test_equals_the_naive_reference(num_queries, num_gallery, seed):
    query = make_images(num_queries, num_persons=4, seed=seed)
    gallery = make_images(num_gallery, num_persons=4, seed=100 + seed)
    # At least one query has a match, whatever was drawn.
    query.person_ids[0] = gallery.person_ids[0]
    query.camera_ids[0] = gallery.camera_ids[0] + 1

    expected = references_reid.evaluate(to_lists(query), to_lists(gallery), TOPK)
    assert evaluate_reid(query, gallery, TOPK) == pytest.approx(expected, abs=1e-4)


def test_mean_average_precision_equals_scikit_learn():
    query, gallery = make_images(20, seed=1), make_images(90, seed=2)
    ranking = rank_gallery(query, gallery)
    expected = []
    for matches, similarities in zip(ranking.matches, ranking.similarities, strict=True):
        valid = similarities > -math.inf
        expected.append(average_precision_score(matches[valid], similarities[valid]))
    assert evaluate_reid(query, gallery)['mAP'] == pytest.approx(100 * np.mean(expected), abs=1e-6)


@pytest.mark.parametrize(
    ('is_match', 'expected'),
    [
        ([1, 1, 0, 1, 0, 0, 1], dict(mAP=83.0357, mAP_trapezoid=81.1012, mINP=400 / 7)),
        ([1], dict(mAP=100, mAP_trapezoid=100, mINP=100)),
        ([0, 1], dict(mAP=50, mAP_trapezoid=25, mINP=50)),
        ([0, 1, 1], dict(mAP=58.3333, mAP_trapezoid=41.6667, mINP=66.6667)),
    ],
)
def test_worked_examples(is_match, expected):
    metrics = evaluate_reid(*one_query(is_match))
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-3)


def test_cmc_counts_the_first_match_alone():
    # The first match is the sixth image.
    metrics = evaluate_reid(*one_query([0, 0, 0, 0, 0, 1, 0, 1]), topk=(1, 5, 6, 7, 1000))
    assert [metrics[f'rank-{k}'] for k in (1, 5, 6, 7, 1000)] == [0, 0, 100, 100, 100]


def test_own_camera_is_left_out_for_the_same_person_alone():
    query = at_angles([0.0], [1], [0])
    # Nearest first: the person by its own camera, another by that camera, the person by another.
    gallery = at_angles([0.1, 0.2, 0.3], [1, 2, 1], [0, 0, 1])
    ranking = rank_gallery(query, gallery)
    assert ranking.indices.tolist() == [[1, 2, 0]]
    assert ranking.matches.tolist() == [[False, True, False]]
    assert ranking.similarities[0, 2] == -math.inf
    assert evaluate_reid(query, gallery)['mAP'] == pytest.approx(50)


def test_queries_without_a_match_are_left_out_and_counted():
    gallery = at_angles([0.1, 0.2], [1, 2], [1, 1])
    # Person 2 was seen by the query's own camera alone, person 3 not at all.
    query = at_angles([0.0, 0.0, 0.0], [1, 2, 3], [0, 1, 0])
    metrics = evaluate_reid(query, gallery)
    assert metrics['queries_left_out'] == 2
    assert metrics['mAP'] == metrics['rank-1'] == metrics['mINP'] == pytest.approx(100)


@pytest.mark.parametrize(
    ('person_ids', 'expected'), [([1, 2, 2], 100), ([2, 1, 2], 50), ([2, 2, 1], 100 / 3)]
)
def test_ties_keep_the_order_of_the_gallery(person_ids, expected):
    query = Embeddings(torch.ones(1, 2), torch.tensor([1]), torch.tensor([0]))
    gallery = Embeddings(torch.ones(3, 2), torch.tensor(person_ids), torch.tensor([1, 1, 1]))
    assert rank_gallery(query, gallery).indices.tolist() == [[0, 1, 2]]
    assert evaluate_reid(query, gallery)['mAP'] == pytest.approx(expected)


def make_copies(num_images, num_distinct, seed):
    """Images of which many have the same features, of a length that is summed in blocks."""
    images = make_images(num_images, length=2048, seed=seed)
    rng = torch.Generator().manual_seed(seed)
    return images._replace(
        features=images.features[torch.randint(num_distinct, (num_images,), generator=rng)]
    )


@pytest.fixture
def threads():
    """Set the number of threads, and set it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def check_copies(ranking, gallery):
    """Identical images are equally similar to a query, and those not junk are in their order."""
    features = gallery.features.unique(dim=0, return_inverse=True)[1]
    for indices, similarities in zip(ranking.indices, ranking.similarities, strict=True):
        valid = similarities > -math.inf
        for feature in features.unique():
            chosen = valid & (features[indices] == feature)
            assert len(similarities[chosen].unique()) <= 1
            places = chosen.nonzero()[:, 0]
            # Nothing else is as similar, so they follow one another.
            assert places.tolist() == list(range(places[0], places[0] + len(places)))
            assert indices[chosen].tolist() == sorted(indices[chosen].tolist())


@pytest.mark.parametrize('num_threads', [1, 2])
@pytest.mark.parametrize('num_gallery', [333, 1000])
def test_identical_images_of_the_gallery_are_ties(threads, num_gallery, num_threads):
    threads(num_threads)
    query, gallery = make_images(7, length=2048), make_copies(num_gallery, 40, seed=1)
    check_copies(rank_gallery(query, gallery), gallery)
    for ranking in reid._rank_in_chunks(query, gallery):
        check_copies(ranking, gallery)


@pytest.mark.parametrize('entries', [1, 777, 2500, 2**24])
def test_identical_queries_get_identical_rankings(monkeypatch, entries):
    monkeypatch.setattr(reid, '_CHUNK_ENTRIES', entries)
    # Persons and cameras that are nowhere in the gallery, so that nothing is junk.
    query = make_copies(40, 13, seed=2)._replace(camera_ids=torch.full((40,), 9))
    gallery = make_copies(257, 200, seed=3)
    # Chunks go through the queries in an order of their own: the person says which one it is.
    query = query._replace(person_ids=torch.arange(40))
    chunks = list(reid._rank_in_chunks(query, gallery))
    places = reid._first_equal_rows(query.features).argsort(stable=True)
    for ranking in (
        rank_gallery(query, gallery),
        reid.Ranking(*(torch.cat(parts)[places.argsort()] for parts in zip(*chunks, strict=True))),
    ):
        check_copies(ranking, gallery)
        first = reid._first_equal_rows(query.features)
        assert torch.equal(ranking.indices, ranking.indices[first])
        assert torch.equal(ranking.similarities, ranking.similarities[first])


def test_results_with_copies_do_not_depend_on_threads_and_chunks(monkeypatch, threads):
    query, gallery = make_copies(60, 50, seed=4), make_copies(500, 60, seed=5)
    found = []
    for num_threads in (1, 2):
        threads(num_threads)
        for entries in (500, 3500, 2**24):
            monkeypatch.setattr(reid, '_CHUNK_ENTRIES', entries)
            found.append(evaluate_reid(query, gallery))
    assert all(metrics == pytest.approx(found[0], abs=1e-9) for metrics in found)


def test_zeros_of_either_sign_are_equal():
    query = Embeddings(torch.ones(1, 2), torch.tensor([1]), torch.tensor([0]))
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -0.0], [2.0, 0.0]])
    assert reid._first_equal_rows(features).tolist() == [0, 1, 0, 3]
    gallery = Embeddings(features, torch.tensor([2, 2, 1, 2]), torch.ones(4, dtype=torch.int64))
    assert rank_gallery(query, gallery).indices.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize('entries', [1, 60, 100, 10**6])
def test_chunks_change_nothing(monkeypatch, entries):
    query, gallery = make_images(23, seed=3), make_images(30, seed=4)
    expected = evaluate_reid(query, gallery)
    monkeypatch.setattr(reid, '_CHUNK_ENTRIES', entries)
    assert evaluate_reid(query, gallery) == pytest.approx(expected, abs=1e-9)


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_length_of_features_does_not_count(scale, seed):
    query, gallery = make_images(5, seed=seed), make_images(40, seed=seed + 1)
    scaled = gallery._replace(features=gallery.features * scale)
    assert evaluate_reid(query, scaled) == pytest.approx(evaluate_reid(query, gallery), abs=1e-4)


@pytest.mark.parametrize(
    ('dtype', 'exponents'),
    [
        (torch.float32, (-148, -126, -60, -20, 60, 100, 127)),
        (torch.float64, (-1000, 1000)),
        (torch.bfloat16, (-120, 120)),
        (torch.float16, (-14, 14)),
    ],
)
def test_features_of_any_size_are_compared(dtype, exponents):
    query = at_angles([0.0], [1], [0])
    gallery = at_angles([1.0, 0.5], [2, 1], [1, 1])
    for exponent in exponents:
        factor = torch.tensor(2.0, dtype=torch.float64) ** exponent
        for large in (0, 1):  # one of the two images, or both
            features = gallery.features.double()
            features[large:] *= factor
            images = gallery._replace(features=features.to(dtype))
            assert evaluate_reid(query, images)['mAP'] == 100
            scaled = query._replace(features=(query.features.double() * factor).to(dtype))
            assert evaluate_reid(scaled, images)['mAP'] == 100


def test_features_of_ordinary_size_are_normalised_as_by_torch():
    rng = torch.Generator().manual_seed(0)
    scale = torch.logspace(-6, 6, 50)[:, None]
    features = torch.randn(50, 128, generator=rng) * scale
    features[7] = 0
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        mine = reid._normalise(features.to(dtype))
        assert torch.equal(mine, torch.nn.functional.normalize(features.to(dtype).float()))


@given(seed=st.integers(0, 99))
def test_trapezoid_is_never_above(seed):
    metrics = evaluate_reid(make_images(5, seed=seed), make_images(40, seed=seed + 1))
    assert metrics['mAP_trapezoid'] <= metrics['mAP'] + 1e-9


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_features_of_other_dtypes_are_compared_in_float32(dtype):
    query, gallery = make_images(5, seed=5), make_images(40, seed=6)
    query, gallery = (part._replace(features=part.features.to(dtype)) for part in (query, gallery))
    expected = evaluate_reid(
        *(part._replace(features=part.features.float()) for part in (query, gallery))
    )
    assert evaluate_reid(query, gallery) == pytest.approx(expected)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(features=torch.zeros(0, 8)), r'features of `query` to have shape \(N >= 1, D\)'),
        (dict(features=torch.zeros(3)), r'features of `query` .* but got \(3,\)'),
        (dict(features=torch.zeros(3, 7)), 'one length, but got 7 and 8'),
        (dict(features=torch.full((3, 8), math.nan)), 'features of `query` to be finite'),
        (
            dict(person_ids=torch.zeros(2)),
            r'`query.person_ids` to have shape \(3,\), but got \(2,\)',
        ),
        (dict(camera_ids=torch.zeros(3, 1)), '`query.camera_ids` to have shape'),
        (dict(person_ids=torch.full((3,), 99)), 'none of 3 has one'),
    ],
)
def test_bad_input_is_named(change, message):
    query, gallery = make_images(3), make_images(4, seed=1)
    with pytest.raises(ValueError, match=message):
        evaluate_reid(query._replace(**change), gallery)


def test_bad_topk_is_named():
    with pytest.raises(ValueError, match='`topk` to hold ranks >= 1, but got 0'):
        evaluate_reid(make_images(3), make_images(30, seed=1), topk=(0, 1))
    with pytest.raises(TypeError, match='`topk` to hold ints, but got 2.5'):
        evaluate_reid(make_images(3), make_images(30, seed=1), topk=2.5)


def test_one_k():
    images = make_images(3), make_images(30, seed=1)
    assert evaluate_reid(*images, topk=5) == evaluate_reid(*images, topk=(5,))
