"""Slow decoders: one bit, one symbol at a time, from the stored arrays alone. No code shared with the package."""

from __future__ import annotations

import numpy as np


def bits_of(array):
    """Bits of a byte array in stored order, least significant first."""
    return [byte >> j & 1 for byte in np.asarray(array).reshape(-1).tolist() for j in range(8)]


def decode_radix(words, base, digits_per_word, count):
    symbols = []
    for word in np.asarray(words).reshape(-1).tolist():
        for _ in range(digits_per_word):
            symbols.append(word % base)
            word //= base
    return symbols[:count]


def huffman_codes(lengths):
    """Canonical code of every rank as a string of 0 and 1, for ascending lengths."""
    codes, value, length = [], 0, lengths[0]
    for current in lengths:
        value <<= current - length
        length = current
        codes.append(format(value, f"0{current}b"))
        value += 1
    return codes


def decode_huffman(planes, sizes, lengths, count):
    """Ranks, symbol by symbol: each reads its bit from plane 1, then plane 2, and so on until a code matches."""
    stream, cut = bits_of(planes), np.cumsum([0, *sizes])
    rest = [iter(stream[cut[i] : cut[i + 1]]) for i in range(len(sizes))]
    ranks = {code: rank for rank, code in enumerate(huffman_codes(lengths))}
    unfinished = dict.fromkeys(range(count), "")
    found = [None] * count
    for plane in rest:
        for position in list(unfinished):
            unfinished[position] += str(next(plane))
            if unfinished[position] in ranks:
                found[position] = ranks[unfinished.pop(position)]
        if not unfinished:
            break
    assert not unfinished
    return found


def read_numbers(stored, bits, count):
    """Numbers of a head: bytes; 4, 6 or 7 bits in rows of bytes and one number more in what is left; or bit planes."""
    if bits == 8:
        return np.asarray(stored).tolist()
    rows = np.asarray(stored).tolist()
    if bits in (4, 6, 7):
        low = [byte % 2**bits for row in rows for byte in row]
        spare = [
            sum((row[column] >> bits) << (8 - bits) * place for place, row in enumerate(rows))
            for column in range(len(rows[0]))
        ]
        return (low + spare)[:count]
    planes = [bits_of(row) for row in rows]
    return [sum(plane[i] << j for j, plane in enumerate(planes)) for i in range(count)]


def decode_strides(head, rest, sizes, widths, lengths, count):
    """Ranks, symbol by symbol: each reads a number from every plane until what it has read is a code."""
    stream, cut = bits_of(rest), np.cumsum([0, *sizes])
    ranks = {code: rank for rank, code in enumerate(huffman_codes(lengths))}
    unfinished = dict.fromkeys(range(count), "")
    found = [None] * count
    for level, width in enumerate(widths):
        if level == 0:
            numbers = read_numbers(head, width, count)
        else:
            piece = stream[cut[level - 1] : cut[level]]
            numbers = [sum(piece[j * len(unfinished) + i] << j for j in range(width)) for i in range(len(unfinished))]
        for position, number in zip(list(unfinished), numbers, strict=True):
            unfinished[position] += format(number, f"0{width}b")
            if unfinished[position] in ranks:
                found[position] = ranks[unfinished.pop(position)]
    assert not unfinished
    return found


def decode_gaps(highs, lows, modulus):
    """Ascending numbers from unary highs and planes of low bits: d = M h - r, number by number."""
    bits, numbers, number, high = bits_of(highs), [], 0, 0
    lows = np.asarray(lows)
    low_bits = lows.shape[1]
    assert modulus == 2**low_bits
    for bit in bits:
        if bit:
            index = len(numbers)
            group, lane = divmod(index, 8)
            low = sum((int(lows[group, j, 0]) >> lane & 1) << j for j in range(low_bits))
            number += modulus * high - low
            numbers.append(number)
            high = 0
        high += 1
    assert len(numbers) == 8 * lows.shape[0]
    return numbers


def decode_sparse(highs, lows, modulus, codebook, count):
    values = [np.float32(0)] * count
    for number in decode_gaps(highs, lows, modulus):
        symbol, position = divmod(number, count)
        values[position] = codebook[symbol]
    return values


def decode_classes(arrays, codebook, fill, count):
    """Number by number: which class it is in, its unary part from the front, its low bits from the back."""
    stream, (numbers,), starts, steps, tables, constants, low_bits, bases = [np.asarray(a).tolist() for a in arrays[:8]]
    bits, values = bits_of(stream), [np.float32(fill)] * count
    ones = [index for index, bit in enumerate(bits) if bit][:numbers]
    back, reached, before = len(bits), 0, 0
    for number, one in enumerate(ones):
        symbol = sum(step for start, step in zip(starts, steps, strict=True) if start <= number)
        entry = tables[symbol] + one - before
        before = one
        back -= low_bits[entry]
        reached += bases[entry] + sum(bits[back + j] << j for j in range(low_bits[entry]))
        values[(reached - constants[symbol]) % count] = codebook[symbol]
    return values


def cheapest_table_bits(gaps, largest_exponent, bin_bits):
    """Least bits of gaps >= 1 over all tables of bins, by trying every width after every end of a bin."""
    top = max(gaps)
    least = [0.0] * (top + 1)
    for end in range(top - 1, -1, -1):
        beyond = [gap for gap in gaps if gap > end]
        least[end] = min(
            bin_bits + len(beyond) + sum(k for gap in beyond if gap <= end + 2**k) + least[min(end + 2**k, top)]
            for k in range(largest_exponent)
        )
    return least[0]


def shortest_prefix_code_bits(counts):
    """Total bits of an optimal prefix code, by merging the two rarest over and over."""
    weights, total = sorted(count for count in counts if count), 0
    while len(weights) > 1:
        merged = weights[0] + weights[1]
        total += merged
        weights = sorted([merged, *weights[2:]])
    return total


def runs_of_tunstall(pairs, numbers, depths, base, powers):
    """The run of every word: the symbols of its parent, and one more."""
    flags = bits_of(pairs)
    runs = []
    for pair in range(len(numbers) * base):
        if flags[pair]:
            parent, last = divmod(pair, base)
            runs.append([int(numbers[parent]) // int(powers[j]) % base for j in range(depths[parent])] + [last])
    return runs


def read_twelve_bits(high, low):
    """Words of 12 bits from their high eight bits (2, g) and their low four (1, g)."""
    return [int(high[row, i]) << 4 | int(low[0, i]) >> 4 * row & 15 for row in range(2) for i in range(high.shape[1])]


def decode_buckets(arrays, first_bits, second_bits, symbols, base, count):
    """Symbols in the order of the codebook, word by word: a number, perhaps another one, and bits."""
    arrays = [np.asarray(array) for array in arrays]
    firsts = read_numbers(arrays[0], first_bits, 8 * arrays[0].size // first_bits)
    seconds = iter(read_numbers(arrays[1], second_bits, 8 * arrays[1].size // second_bits) if second_bits else [])
    rests, exponents, *popularities = arrays[2 if second_bits else 1 :]
    words = [[symbol] for symbol in range(base)]
    if popularities:
        popular = popularities[0].tolist()
        words = [[number // base**j % base for j in range(symbols)] for number in range(base**symbols)]
        words.sort(key=lambda word: -sum(popular[symbol] for symbol in word))
    origins, bits, place, found = np.cumsum([0, *(2 ** exponents.astype(int))]), bits_of(rests), 0, []
    while len(found) < count:
        bucket = firsts[len(found) // symbols]
        if second_bits and bucket == 2**first_bits - 1:
            bucket += next(seconds)
        width = int(exponents[bucket])
        found += words[origins[bucket] + sum(bits[place + j] << j for j in range(width))]
        place += width
    return found[:count]
