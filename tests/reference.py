"""Slow, obvious oracles in float64 loops; every fast path in the package is compared with one of these.

Mixtures are given as plain lists: ``weights[k]``, ``means[k][j]`` and ``variances[k][j]``; values as rows
``values[i][j]`` with sensitivities ``h[i][j]``. Scalar weights are rows of length 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Row = Sequence[float]
Rows = Sequence[Row]


def rows(values: Sequence[float]) -> list[list[float]]:
    """Scalars as rows of length 1."""
    return [[float(value)] for value in values]


def log_joint(row: Row, h: Row, weight: float, mean: Row, variance: Row) -> float:
    """log(pi N(w; mu, sigma^2 / h)) without the log h term."""
    if weight == 0:
        return -math.inf
    total = math.log(weight)
    for w, s, mu, v in zip(row, h, mean, variance, strict=True):
        total += -0.5 * math.log(2 * math.pi * v) - s * (w - mu) ** 2 / (2 * v)
    return total


def log_density(row: Row, h: Row, weights: Row, means: Rows, variances: Rows) -> float:
    joint = [log_joint(row, h, *component) for component in zip(weights, means, variances, strict=True)]
    peak = max(joint)
    return peak + math.log(sum(math.exp(value - peak) for value in joint))


def responsibilities(row: Row, h: Row, weights: Row, means: Rows, variances: Rows) -> list[float]:
    total = log_density(row, h, weights, means, variances)
    return [math.exp(log_joint(row, h, *part) - total) for part in zip(weights, means, variances, strict=True)]


def log_posterior(
    values: Rows, h: Rows, weights: Row, means: Rows, variances: Rows, a: float, alpha: float, beta: float
) -> float:
    """Objective of MAP-EM, up to constants; ``h`` has mean 1."""
    total = sum(log_density(row, s, weights, means, variances) for row, s in zip(values, h, strict=True))
    for weight, variance in zip(weights, variances, strict=True):
        total += (a - 1) * math.log(weight)
        total += sum((alpha - 1) * math.log(1 / v) - beta / v for v in variance)
    return total


def em_step(
    values: Rows, h: Rows, weights: Row, means: Rows, variances: Rows,
    a: float, alpha: float, beta: float, fixed_zero: bool, floor: float,
) -> tuple[list[float], list[list[float]], list[list[float]]]:  # fmt: skip
    """One MAP-EM step on every weight by itself; ``h`` has mean 1."""
    r = [responsibilities(row, s, weights, means, variances) for row, s in zip(values, h, strict=True)]
    count, dimension = len(weights), len(values[0])
    mass = [sum(r[i][k] for i in range(len(values))) for k in range(count)]
    new_weights = [(mass[k] + a - 1) / sum(m + a - 1 for m in mass) for k in range(count)]
    new_means, new_variances = [], []
    for k in range(count):
        mean_row, variance_row = [], []
        for j in range(dimension):
            share = sum(h[i][j] * r[i][k] for i in range(len(values)))
            mean = sum(h[i][j] * r[i][k] * values[i][j] for i in range(len(values))) / share
            if fixed_zero and k == 0:
                mean = 0.0
            scatter = sum(h[i][j] * r[i][k] * (values[i][j] - mean) ** 2 for i in range(len(values)))
            mean_row.append(mean)
            variance_row.append(max((scatter + 2 * beta) / (mass[k] + 2 * (alpha - 1)), floor))
        new_means.append(mean_row)
        new_variances.append(variance_row)
    return new_weights, new_means, new_variances


def histogram(
    values: Row, h: Row, low: float, high: float, bins: int
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Count, sum of h, of h (w - c) and of h (w - c)^2 per bin; values outside the range go to the bins at the edge."""
    counts, sensitivity, first, second = ([0.0] * bins for _ in range(4))
    step = (high - low) / bins
    for w, s in zip(values, h, strict=True):
        b = min(max(math.floor((w - low) / step), 0), bins - 1)
        offset = w - (low + (b + 0.5) * step)
        counts[b] += 1
        sensitivity[b] += s
        first[b] += s * offset
        second[b] += s * offset**2
    return counts, sensitivity, first, second


def pull(w: float, metric: float, strength: float, weights: Row, means: Row, variances: Row) -> float:
    """Minimiser of H/2 (w' - w)^2 + tau a/2 (w' - m)^2 at the exact a(w), m(w)."""
    r = responsibilities([w], [1.0], weights, [[m] for m in means], [[v] for v in variances])
    a = sum(r[k] / variances[k] for k in range(len(weights)))
    m = sum(r[k] * means[k] / variances[k] for k in range(len(weights))) / a
    return (metric * w + strength * a * m) / (metric + strength * a)


def component_costs(row: Row, h: Row, weights: Row, means: Rows, bit_price: float) -> list[float]:
    """Cost of every component, sum_j h_j (w_j - mu_kj)^2 - bit_price log2 pi_k."""
    costs = []
    for weight, mean in zip(weights, means, strict=True):
        cost = sum(s * (w - mu) ** 2 for w, s, mu in zip(row, h, mean, strict=True))
        if bit_price > 0:
            cost += math.inf if weight == 0 else -bit_price * math.log2(weight)
        costs.append(cost)
    return costs


def snap(values: Rows, h: Rows, weights: Row, means: Rows, bit_price: float) -> tuple[list[int], list[list[float]]]:
    """Cheapest component of each row, and the mean of its members under h; a mean of exactly 0 stays."""
    chosen = []
    for row, s in zip(values, h, strict=True):
        costs = component_costs(row, s, weights, means, bit_price)
        chosen.append(costs.index(min(costs)))
    codebook = []
    for k, mean in enumerate(means):
        entry = []
        for j, mu in enumerate(mean):
            mass = sum(s[j] for s, c in zip(h, chosen, strict=True) if c == k)
            moment = sum(s[j] * row[j] for row, s, c in zip(values, h, chosen, strict=True) if c == k)
            entry.append(moment / mass if mass > 0 and any(mean) else mu)
        codebook.append(entry)
    return chosen, codebook


def entropy_bits(symbols: Sequence[int]) -> float:
    """Order-0 entropy, bits per symbol."""
    total = 0.0
    for symbol in sorted(set(symbols)):
        share = sum(1 for other in symbols if other == symbol) / len(symbols)
        total -= share * math.log2(share)
    return total


def least_distortion(points: Row, weights: Row, clusters: int) -> float:
    """Optimum of weighted 1-D k-means on sorted points, by dynamic programming over the cuts."""

    def cost(start: int, stop: int) -> float:
        share = sum(weights[start:stop])
        mean = sum(w * x for w, x in zip(weights[start:stop], points[start:stop], strict=True)) / share
        return sum(w * (x - mean) ** 2 for w, x in zip(weights[start:stop], points[start:stop], strict=True))

    best = [math.inf] * (len(points) + 1)
    best[0] = 0.0
    for _ in range(clusters):
        best = [math.inf] + [
            min(best[start] + cost(start, stop) for start in range(stop)) for stop in range(1, len(points) + 1)
        ]
    return best[-1]


def assignment(w: float, h: float, codebook: Row, code_bits: Row, bit_price: float) -> int:
    """Index of the least h (w - mu_k)^2 + bit_price * bits_k, the first of equals."""
    costs = [h * (w - mean) ** 2 + bit_price * bits for mean, bits in zip(codebook, code_bits, strict=True)]
    return costs.index(min(costs))


def member_means(values: Row, h: Row, chosen: Sequence[int], codebook: Row) -> list[float]:
    """Mean under h of the members of each entry; entry 0 is zero, and entries without members stay."""
    means = [0.0]
    for k in range(1, len(codebook)):
        mass = sum(s for s, c in zip(h, chosen, strict=True) if c == k)
        moment = sum(s * w for s, w, c in zip(h, values, chosen, strict=True) if c == k)
        means.append(moment / mass if mass > 0 else codebook[k])
    return means


def softened(logits: Row, temperature: float) -> list[float]:
    peak = max(logits)
    powers = [math.exp((value - peak) / temperature) for value in logits]
    return [power / sum(powers) for power in powers]


def distillation(students: Rows, teachers: Rows, temperature: float) -> float:
    """temperature * KL(teacher || student) of softened classes, mean over samples."""
    total = 0.0
    for student, teacher in zip(students, teachers, strict=True):
        for p, q in zip(softened(teacher, temperature), softened(student, temperature), strict=True):
            total += temperature * p * math.log(p / q)
    return total / len(students)
