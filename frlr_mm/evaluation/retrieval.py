"""Single-query retrieval as person re-identification (re-ID) evaluates it."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from frlr_mm.evaluation._topk import check_topk

# Entries of the (queries, gallery) matrices that are in memory at once, about 0.5 GB in all.
_CHUNK_ENTRIES = 2**24


class Embeddings(NamedTuple):
    """Images as the evaluation sees them: a row of each tensor per image.

    Args:
        features (Tensor): (N, D), floating-point; compared by their cosine.
        person_ids (Tensor): (N,), integer.
        camera_ids (Tensor): (N,), integer.
    """

    features: Tensor
    person_ids: Tensor
    camera_ids: Tensor


class Ranking(NamedTuple):
    """The gallery in the order of its similarity to each of Q queries.

    Identical features are equally similar, bit for bit: images of the gallery to a query, and
    queries to an image.

    Args:
        indices (Tensor): (Q, G), int64: places in the gallery, the most similar first. Of equally
            similar images the first in the gallery comes first; junk comes last.
        similarities (Tensor): (Q, G), float32: cosines, in that order; -inf for junk.
        matches (Tensor): (Q, G), bool: whether each is of the query's person.
    """

    indices: Tensor
    similarities: Tensor
    matches: Tensor


def rank_gallery(query: Embeddings, gallery: Embeddings) -> Ranking:
    """Rank the gallery for each query.

    Images of the query's person that its own camera took are junk: neither matches nor errors.
    What the camera took of others stays.

    Args:
        query (Embeddings): Q images.
        gallery (Embeddings): G images.

    Returns:
        Ranking: In memory as a whole; :func:`evaluate_reid` goes through large sets in chunks.
    """
    queries, images = _normalise(query.features), _normalise(gallery.features)
    similarity = (queries @ images.T)[_first_equal_rows(queries)][:, _first_equal_rows(images)]
    return _rank(similarity, query, gallery)


def evaluate_reid(
    query: Embeddings, gallery: Embeddings, topk: int | Sequence[int] = (1, 5, 10, 20)
) -> dict[str, float]:
    r"""Evaluate single-query retrieval.

    Of a query whose K matches lie at the 0-based ranks :math:`r_1 < ... < r_K`, junk removed:

    .. math::
        \mathrm{CMC@}k = [r_1 < k], \quad
        \mathrm{AP} = \frac{1}{K} \sum_j \frac{j}{r_j + 1}, \quad
        \mathrm{AP}_{trapezoid} = \frac{1}{K} \sum_j \frac{1}{2}
            \left(\frac{j - 1}{r_j} + \frac{j}{r_j + 1}\right), \quad
        \mathrm{INP} = \frac{K}{r_K + 1}

    with :math:`(j - 1) / r_j = 1` at :math:`r_j = 0`. AP is not interpolated, as in scikit-learn;
    the trapezoid is that of the official code of Market-1501. A query without any match is left
    out of the averages.

    Args:
        query (Embeddings): Q >= 1 images.
        gallery (Embeddings): G >= 1 images.
        topk (int | Sequence[int]): The ranks k of CMC, >= 1. Defaults to (1, 5, 10, 20).

    Returns:
        dict[str, float]: In percent ``mAP``, ``rank-{k}`` (CMC@k), ``mAP_trapezoid`` and ``mINP``;
        and ``queries_left_out``, how many have no match.

    Raises:
        TypeError: If a k is not an int.
        ValueError: If shapes do not fit, a feature is not finite, there is no k or one below 1, or
            no query has a match.

    Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015 (protocol);
    Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021
    (INP).
    """
    _check_embeddings('query', query)
    _check_embeddings('gallery', gallery)
    if query.features.shape[1] != gallery.features.shape[1]:
        raise ValueError(
            'Expected features of `query` and `gallery` to have one length, but got '
            f'{query.features.shape[1]} and {gallery.features.shape[1]}'
        )
    topk = check_topk(topk)
    totals = torch.zeros(len(topk) + 4, dtype=torch.float64)
    for ranking in _rank_in_chunks(query, gallery):
        totals += _sum_over_queries(ranking.matches, topk)
        del ranking  # before the next one takes as much memory again
    num_valid = totals[-1].item()
    if num_valid == 0:
        raise ValueError(
            'Expected a match in the gallery, of the same person and another camera, '
            f'for at least one query, but none of {len(query.features)} has one'
        )
    # The first one decides where a best checkpoint is saved by `save_best='auto'`.
    names = ['mAP', *(f'rank-{k}' for k in topk), 'mAP_trapezoid', 'mINP']
    percent = 100 * totals[:-1] / num_valid
    return dict(
        zip(names, percent.tolist(), strict=True), queries_left_out=len(query.features) - num_valid
    )


def _check_embeddings(name: str, images: Embeddings) -> None:
    features, *ids = images
    if features.ndim != 2 or not len(features):
        raise ValueError(
            f'Expected features of `{name}` to have shape (N >= 1, D), '
            f'but got {tuple(features.shape)}'
        )
    for field, tensor in zip(('person_ids', 'camera_ids'), ids, strict=True):
        if tensor.shape != features.shape[:1]:
            raise ValueError(
                f'Expected `{name}.{field}` to have shape ({len(features)},), '
                f'but got {tuple(tensor.shape)}'
            )
    if not features.isfinite().all():
        raise ValueError(f'Expected features of `{name}` to be finite, but got NaN or infinity')


def _normalise(features: Tensor) -> Tensor:
    """Return the features with a length of 1, zeros as they are, float32."""
    if features.dtype != torch.float64:
        features = features.float()
    # Squares of very large or small values are infinite or 0: first divided by a power of two,
    # which changes nothing of any others.
    largest = features.abs().amax(1, keepdim=True)
    power = largest / (2 * torch.frexp(largest).mantissa)
    features = features / power.where(largest > 0, 1.0)
    return F.normalize(features.float(), dim=1)


def _rank(similarity: Tensor, query: Embeddings, gallery: Embeddings) -> Ranking:
    same_person = query.person_ids[:, None] == gallery.person_ids
    junk = same_person & (query.camera_ids[:, None] == gallery.camera_ids)
    similarity = similarity.masked_fill_(junk, -torch.inf)
    similarities, indices = similarity.sort(dim=1, descending=True, stable=True)
    return Ranking(indices, similarities, (same_person & ~junk).gather(1, indices))


def _rank_in_chunks(query: Embeddings, gallery: Embeddings) -> Iterator[Ranking]:
    queries, images = _normalise(query.features), _normalise(gallery.features)
    rows, columns = _first_equal_rows(queries), _first_equal_rows(images)
    copies = (columns != torch.arange(len(columns), device=columns.device)).nonzero()[:, 0]
    size = max(1, _CHUNK_ENTRIES // len(images))
    # Equal queries follow one another: of the chunk before, the last row alone is needed.
    last_row, last = -1, images.new_empty(0)
    for places in rows.argsort(stable=True).split(size):
        distinct, inverse = rows[places].unique_consecutive(return_inverse=True)
        similarity = queries[distinct] @ images.T
        similarity[:, copies] = similarity[:, columns[copies]]
        if distinct[0] == last_row:
            similarity[0] = last
        last_row, last = int(distinct[-1]), similarity[-1].clone()
        if len(distinct) < len(places):
            similarity = similarity[inverse]
        ranking = _rank(similarity, Embeddings(*(part[places] for part in query)), gallery)
        del similarity
        yield ranking
        del ranking


def _first_equal_rows(features: Tensor) -> Tensor:
    """Return for each row the place of the first row that equals it, int64 (N,).

    The rounding of a blocked matrix product depends on where a row is, and on the number of
    threads: by itself it gives equal features similarities that differ in the last bit.
    """
    first: dict[bytes, int] = {}
    places = []
    for place, row in enumerate(features.cpu().numpy()):
        # Digests, as the rows themselves would double the memory; + 0.0 turns -0.0 into 0.0.
        places.append(first.setdefault(hashlib.sha256(row + 0.0).digest(), place))
    return torch.tensor(places, device=features.device)


def _sum_over_queries(matches: Tensor, topk: Sequence[int]) -> Tensor:
    """Sum AP, CMC@k, trapezoid AP and INP over the queries with a match, and count these."""
    counts = matches.sum(1)
    matches, counts = matches[counts > 0], counts[counts > 0]
    # One entry for each match, query after query: its rank, and which of the query's it is.
    row, rank = matches.nonzero(as_tuple=True)
    rank = rank.double()
    first = counts.cumsum(0) - counts
    ordinal = torch.arange(1, len(row) + 1, device=row.device) - first[row]
    precision = ordinal / (rank + 1)
    before = torch.where(rank == 0, 1.0, (ordinal - 1) / rank)
    share = 1 / counts.double()[row]
    return torch.stack(
        [
            (share * precision).sum(),
            *((rank[first] < k).sum() for k in topk),
            (share * (precision + before) / 2).sum(),
            (counts / (rank[first + counts - 1] + 1)).sum(),
            torch.tensor(len(counts)),
        ]
    ).cpu()
