"""Naive person retrieval: Python floats and loops, one query at a time."""

import math


def cosine(a, b):
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / (math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b)))


def ranks_of_matches(query, gallery):
    """Rank, from 0, of each match of one query.

    ``query`` and the items of ``gallery`` are (feature, person, camera).
    """
    feature, person, camera = query
    candidates = []
    for place, (other, other_person, other_camera) in enumerate(gallery):
        if other_person == person and other_camera == camera:
            continue
        # Python sorts tuples, so that the first in the gallery wins a tie.
        candidates.append((-cosine(feature, other), place, other_person == person))
    return [rank for rank, (_, _, is_match) in enumerate(sorted(candidates)) if is_match]


def average_precision(ranks):
    return sum(found / (rank + 1) for found, rank in enumerate(ranks, 1)) / len(ranks)


def trapezoid_average_precision(ranks):
    """Go down the ranks and add up the area below the curve of precision over recall."""
    area = found = 0.0
    precision_before = 1.0
    for rank in range(max(ranks) + 1):
        is_match = rank in ranks
        found += is_match
        precision = found / (rank + 1)
        if is_match:
            area += (precision_before + precision) / 2 / len(ranks)
        precision_before = precision
    return area


def evaluate(queries, gallery, topk):
    """Percentages by name, and the number of queries without any match."""
    all_ranks = [ranks_of_matches(query, gallery) for query in queries]
    valid = [ranks for ranks in all_ranks if ranks]

    def mean(values):
        return 100 * sum(values) / len(valid)

    metrics = {f'rank-{k}': mean([min(ranks) < k for ranks in valid]) for k in topk}
    metrics['mAP'] = mean([average_precision(ranks) for ranks in valid])
    metrics['mAP_trapezoid'] = mean([trapezoid_average_precision(ranks) for ranks in valid])
    metrics['mINP'] = mean([len(ranks) / (max(ranks) + 1) for ranks in valid])
    metrics['queries_left_out'] = len(all_ranks) - len(valid)
    return metrics
