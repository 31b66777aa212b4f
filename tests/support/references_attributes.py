"""Naive oracles of the attribute metrics: one entry at a time, in pure Python.

Scores and truth are lists of rows; a truth below 0 is unknown. Imports nothing of the package.
"""


def pooled_recall(score: list, target: list, k: int) -> float:
    """Share of all positives that are among the k best known attributes of their image."""
    found = positives = 0
    for scores, truth in zip(score, target):
        known = [j for j in range(len(truth)) if truth[j] >= 0]
        best = sorted(known, key=lambda j: (-scores[j], j))[:k]
        found += sum(truth[j] == 1 for j in best)
        positives += sum(truth[j] == 1 for j in known)
    return found / positives if positives else 0.0


def average_precision(score: list, target: list, column: int) -> float:
    """Sum over distinct thresholds of the gain in recall times the precision there."""
    pairs = [
        (scores[column], truth[column] == 1)
        for scores, truth in zip(score, target)
        if truth[column] >= 0
    ]
    positives = sum(hit for _, hit in pairs)
    if positives == 0:
        return 0.0
    total = last_recall = 0.0
    for threshold in sorted({value for value, _ in pairs}, reverse=True):
        above = [hit for value, hit in pairs if value >= threshold]
        recall = sum(above) / positives
        total += (recall - last_recall) * sum(above) / len(above)
        last_recall = recall
    return total


def class_and_overall_f1(score: list, target: list, thr: float) -> dict:
    """CP, CR, CF1, OP, OR, OF1 by counting each entry."""
    num_classes = len(score[0])
    found, predicted, positive = ([0] * num_classes for _ in range(3))
    for scores, truth in zip(score, target):
        for j in range(num_classes):
            if truth[j] < 0:
                continue
            predicted[j] += scores[j] >= thr
            positive[j] += truth[j] == 1
            found[j] += scores[j] >= thr and truth[j] == 1

    def ratio(part, whole):
        return part / whole if whole else 0.0

    def f1(a, b):
        return 2 * a * b / (a + b) if a + b else 0.0

    cp = sum(map(ratio, found, predicted)) / num_classes
    cr = sum(map(ratio, found, positive)) / num_classes
    op, orr = ratio(sum(found), sum(predicted)), ratio(sum(found), sum(positive))
    return dict(CP=cp, CR=cr, CF1=f1(cp, cr), OP=op, OR=orr, OF1=f1(op, orr))
