"""Variable-to-fixed code: every word has 8 or 12 bits and stands for a run of symbols. Tunstall 1967.

The decoder looks the runs up as rows of one length and drops what fills them up. These are few steps for each weight,
so loading takes less memory than for prefix codes, at the price of more bytes. Two kinds of *dictionaries* are tried,
both trees of runs. In Tunstall's tree every node has all children or none, and the runs are its leaves; the most
probable leaf is split until the words are used up. In the other one the most probable nodes are the runs, and the
stream is cut greedily. With many symbols that is shorter, because hardly any words are spent on rare ones.

A node other than the root is the pair (parent, last symbol). Parents are numbered, so one bit for each pair of a parent
and a symbol tells the runs, in the order of their words.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import FLAT, digits, flat_bits, pack_bits
from sws_compress.codec.encodings.buckets import Buckets
from sws_compress.codec.encodings.huffman import Huffman
from sws_compress.codec.encodings.strides import Strides
from sws_compress.codec.interpreter import A, Array, ArrayOps, Vector
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.program import Code, Operators, SymbolSequence, made

WORD_BITS = (8, 12)
"""Bits of a word that are tried."""

_PLACES_PER_SYMBOL = 2
"""Places that all rows together may have for each symbol: beyond, too much memory goes to what fills rows up."""

_LARGEST_RUN_NUMBER = 1 << 62
"""Runs are stored as numbers of digits of base K, which int64 holds."""

_PIECE_SYMBOLS = 1 << 14
"""Symbols that are cut into runs at once, in arrays that stay in the cache."""

_SAMPLE_SYMBOLS = 1 << 16
"""Symbols on which dictionaries are compared."""

_NANOSECONDS_PER_PLACE = 5.0
"""Time to read a place of a row, filled or not."""

_BYTES_PER_PLACE = 6.0
"""Memory of a place: a value, and whether it is kept."""

_BYTES_PER_WORD = {8: 4.0, 12: 13.0}
"""Memory of a word, by its bits: an int32, and for 12 bits what puts it together."""


@dataclass(frozen=True)
class Tunstall:
    """Reads rows of a table of runs, and drops what lies behind the ends of the runs.

    Arrays: words of 8 bits (w,), or the high eight bits (2, w / 2) and the low four (1, w / 2) of words of 12, those of
    the first row in the low half of the byte; whether each pair of a parent and a symbol is a run, as bits (b, 1); the
    symbols of every parent as number ``sum_j symbol_j K^j``, and how many they are; K; K^0 .. K^(longest - 1).

    Parameters
    ----------
    bits : int
        Bits of a word, 8 or 12.
    runs : int
        Number of runs in the table.
    count : int
        Number of symbols.
    """

    bits: int
    runs: int
    count: int
    encoding = "tunstall"
    shareable = False
    bit_stream = None

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        words, powers = arrays[0].size, arrays[-1]
        places = words * powers.size
        held = _BYTES_PER_WORD[self.bits] * words + _BYTES_PER_PLACE * places
        return LoadCost(1e-9 * _NANOSECONDS_PER_PLACE * places, held)

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        stored, dictionary = arrays[:-5], arrays[-5:]
        words = ops.cast(stored[0], np.int32) if self.bits == 8 else ops.call(_twelve_bits, *stored)[0]
        rows, inside = self._table(ops, codebook, *dictionary)
        mask = ops.reshape(ops.gather(inside, words), ops.constant(FLAT))
        return ops.call(_kept, ops.gather(rows, words), mask, vectors=(Vector(self.count, np.float32),))[0]

    def _table(self, ops: ArrayOps[A], codebook: A, pairs: A, numbers: A, depths: A, base: A, powers: A) -> tuple[A, A]:
        """Codebook values of every run (runs, longest), and which of them lie before its end."""
        column = ops.constant(np.array([-1, 1], np.int64))
        runs = ops.positions_of_ones(flat_bits(ops, pairs), ops.constant(np.array([self.runs], np.int64)))
        parents, last = ops.divide(runs, base), ops.modulo(runs, base)
        before = ops.gather(depths, parents)
        whole = ops.add(ops.gather(numbers, parents), ops.multiply(ops.gather(powers, before), last))
        symbols = digits(ops, ops.reshape(whole, column), powers, base)
        beyond = ops.less(ops.reshape(ops.gather(powers, before), column), powers)
        return ops.gather(codebook, symbols), ops.logical_not(beyond)


def _twelve_bits(ops: ArrayOps[A], high: A, low: A) -> A:
    """Numbers of 12 bits, int32 (w,)."""
    lows = [
        ops.modulo(low, ops.constant(np.array(16, np.uint8))),
        ops.shift_right(low, ops.constant(np.array(4, np.uint8))),
    ]
    row = ops.constant(np.array([1, -1], np.int64))
    parts = [ops.reshape(high, row), ops.reshape(ops.concat(lows), row)]
    return ops.reshape(
        ops.matmul_bytes(ops.constant(np.array([[16, 1]], np.uint8)), ops.concat(parts)), ops.constant(FLAT)
    )


def _kept(ops: ArrayOps[A], values: A, mask: A) -> A:
    """Values where the mask holds; as a function of its own because its length has to be written."""
    return ops.compress(values, mask)


@dataclass(frozen=True, eq=False)
class _Tree:
    """Nodes of a dictionary, parents first. Node 0 is the root, and a child 0 is none.

    Shapes are (nodes, K) for ``children`` and (nodes,) for the others.
    """

    children: npt.NDArray[np.int32]
    parents: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    depths: npt.NDArray[np.int64]


def _tree(pairs: Sequence[tuple[int, int]], base: int) -> _Tree:
    """The tree whose node i + 1 is the i-th pair of a parent and a symbol."""
    children = np.zeros((len(pairs) + 1, base), np.int32)
    depths = np.zeros(len(pairs) + 1, np.int64)
    parents, last = np.array([(0, 0), *pairs], np.int64).T
    for node, (parent, symbol) in enumerate(pairs, start=1):
        children[parent, symbol] = node
        depths[node] = depths[parent] + 1
    return _Tree(children, parents, last, depths)


def _split_leaves(shares: Sequence[float], words: int, longest: int) -> list[tuple[int, int]]:
    """Nodes of Tunstall's tree with at most ``words`` leaves, as pairs of a parent and a symbol."""
    pairs, leaves = list[tuple[int, int]](), 1
    heap = [(-1.0, 0, 0)]
    while heap and leaves + len(shares) - 1 <= words:
        share, node, depth = heapq.heappop(heap)
        if depth == longest:
            continue
        for symbol, part in enumerate(shares):
            pairs.append((node, symbol))
            heapq.heappush(heap, (share * part, len(pairs), depth + 1))
        leaves += len(shares) - 1
    return pairs


def _most_probable(shares: Sequence[float], words: int, longest: int) -> list[tuple[int, int]]:
    """The ``words`` most probable nodes, as pairs of a parent and a symbol; all single symbols are among them."""
    pairs = list[tuple[int, int]]()
    heap = [(-1.0 - share, 0, symbol, 1) for symbol, share in enumerate(shares)]
    heapq.heapify(heap)
    while heap and len(pairs) < words:
        share, parent, last, depth = heapq.heappop(heap)
        pairs.append((parent, last))
        if depth < longest:
            own = share + 1.0 if depth == 1 else share
            for symbol, part in enumerate(shares):
                heapq.heappush(heap, (own * part, len(pairs), symbol, depth + 1))
    return pairs


def _nodes(symbols: npt.NDArray[np.unsignedinteger], tree: _Tree) -> npt.NDArray[np.int64]:
    """Nodes of the longest runs into which the symbols are cut, in order; the last one may be an inner node."""
    found, start = list[npt.NDArray[np.int64]](), 0
    while start < symbols.size:
        nodes, length = _nodes_of_piece(symbols[start : start + _PIECE_SYMBOLS + int(tree.depths.max())], tree)
        found.append(nodes)
        start += length
    return np.concatenate(found)


def _nodes_of_piece(symbols: npt.NDArray[np.unsignedinteger], tree: _Tree) -> tuple[npt.NDArray[np.int64], int]:
    """Nodes of the runs that begin in the first `_PIECE_SYMBOLS` symbols, and how many symbols these runs have."""
    size = min(_PIECE_SYMBOLS, symbols.size)
    node = np.zeros(size, np.int32)
    going, depth = np.arange(size), 0
    while going.size:
        reached = tree.children[node[going], symbols[going + depth]]
        going, reached = going[reached > 0], reached[reached > 0]
        node[going] = reached
        depth += 1
        going = going[: np.searchsorted(going, symbols.size - depth)]
    ends = np.arange(size) + tree.depths[node]
    jump = np.append(np.minimum(ends, size), size)
    starts = np.zeros(1, np.int64)
    while starts[-1] < size:  # jump leads on by as many runs as there are starts
        starts = np.concatenate([starts, jump[starts]])
        jump = jump[jump]
    starts = starts[starts < size]
    return node[starts].astype(np.int64), int(ends[starts[-1]])


class TunstallEncoding:
    """Words that stand for runs of symbols."""

    def codes(self, sequence: SymbolSequence, earlier: Sequence[Code]) -> Iterator[Code]:
        """Codes in words of all sizes, unless a prefix code is within the limit: that hardly ever has more bytes.

        In bytes and in load cost these codes lie between radix words and prefix codes. In short sequences both of those
        cost little.
        """
        if sequence.is_constant or not sequence.is_scalar or not sequence.is_long:
            return
        limit = sequence.limit
        names = (Huffman.encoding, Strides.encoding, Buckets.encoding)
        prefix = (code for code in earlier if code.encoding in names)
        if limit is None or not any(code.load_cost.within(limit) for code in prefix):
            for bits in WORD_BITS:
                yield from made(encode_tunstall(sequence.symbols, sequence.codebook, bits))

    def recognise(self, operators: Operators) -> str | None:
        """``TopK`` finds the runs, and ``Compress`` drops what fills them up: nothing is scattered."""
        found = operators["TopK"] and operators["Compress"] and not operators["ScatterElements"]
        return Tunstall.encoding if found else None


def encode_tunstall(symbols: npt.NDArray[np.unsignedinteger], codebook: Array, bits: int) -> Code | None:
    """Encode symbols in words of 8 or 12 bits.

    Parameters
    ----------
    symbols : ndarray (n,), uint8 or uint16
        Each below K.
    codebook : ndarray (K,), K >= 2
        Value of each symbol.
    bits : int
        Bits of a word, 8 or 12.

    Returns
    -------
    Code or None
        None if ``K ** 2 > 2 ** bits``, because most pairs of symbols then get no word, or if an odd number of words of
        12 bits cannot be made even because there is no run of two.
    """
    base = len(codebook)
    if base * base > 1 << bits:
        return None
    tree = _best_tree(symbols, base, bits)
    nodes = _nodes(symbols, tree)
    if bits == 12 and nodes.size % 2:  # a byte holds the low bits of two words
        longer = np.flatnonzero(tree.depths[nodes] > 1)
        if not longer.size:
            return None
        cut = nodes[longer[-1]]
        halves = [tree.parents[cut], tree.children[0, tree.last[cut]]]
        nodes = np.concatenate([nodes[: longer[-1]], halves, nodes[longer[-1] + 1 :]])
    return _code(symbols.size, codebook, bits, tree, nodes)


def _best_tree(symbols: npt.NDArray[np.unsignedinteger], base: int, bits: int) -> _Tree:
    """The dictionary, of both kinds, that cuts the sample into fewest words; its runs are short, for little padding."""
    sample = symbols[:_SAMPLE_SYMBOLS]
    shares = (np.bincount(symbols, minlength=base) / symbols.size).tolist()
    # Two words are kept back: for a rest that ends at an inner node, and for a run that is cut in two.
    words = (1 << bits) - 2
    best: tuple[int, _Tree] | None = None
    makers: tuple[Callable[..., list[tuple[int, int]]], ...] = (_split_leaves, _most_probable)
    for make in makers:
        longest = 1
        while base ** (longest + 1) < _LARGEST_RUN_NUMBER:
            longest += 1
        tree = _tree(make(shares, words, longest), base)
        found = _nodes(sample, tree).size
        if (longest := _PLACES_PER_SYMBOL * sample.size // found) < tree.depths.max():
            tree = _tree(make(shares, words, longest), base)
            found = _nodes(sample, tree).size
        if best is None or found < best[0]:
            best = found, tree
    assert best is not None
    return best[1]


def _code(count: int, codebook: Array, bits: int, tree: _Tree, nodes: npt.NDArray[np.int64]) -> Code:
    """The code of the runs at ``nodes``: only runs that occur get a word, and only their parents a number."""
    base = len(codebook)
    used = np.unique(nodes)
    parents, number_of = np.unique(tree.parents[used], return_inverse=True)
    pairs = number_of.reshape(-1) * base + tree.last[used]
    word_of = np.zeros(len(tree.depths), np.int64)
    word_of[used[np.argsort(pairs)]] = np.arange(used.size)
    flags = np.zeros(parents.size * base, np.uint8)
    flags[pairs] = 1
    powers = base ** np.arange(int(tree.depths[used].max()), dtype=np.int64)
    numbers = np.zeros(len(tree.depths), np.int64)
    for node in range(1, len(numbers)):
        above = tree.parents[node]
        numbers[node] = numbers[above] + tree.last[node] * base ** int(tree.depths[above])
    dictionary = (pack_bits(flags), numbers[parents], tree.depths[parents], np.array(base, np.int64), powers)
    words = _stored(word_of[nodes], bits)
    program = Tunstall(bits, used.size, count)
    return Code(program, count, codebook, (*words, *dictionary), tuple(range(len(words) + 1)))


def _stored(words: npt.NDArray[np.int64], bits: int) -> tuple[npt.NDArray[np.uint8], ...]:
    """Words as bytes: all of them, or their high eight bits and their low four."""
    if bits == 8:
        return (words.astype(np.uint8),)
    low = words.reshape(2, -1) & 15
    return (words >> 4).astype(np.uint8).reshape(2, -1), (low[0] | low[1] << 4).astype(np.uint8)[None]
