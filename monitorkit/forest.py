"""A random forest fast: a few rows go through all trees in one call, many rows tree by tree.

scikit-learn walks a tree fast, and takes 40 us to call it. So for a few rows the trees become
branches of one: a router above them asks for one more column, the number of a tree, and each row is
given once for each number. Its leaves say what the leaves that the trees would find say.

Many rows are not copied: each tree is called as scikit-learn calls it, without the checks and the
second class. Rows that end in the same leaf of one tree take much the same turns in the others, and
a processor foresees the turn that it took the time before. So rows are sorted by their leaf in the
first tree (`benchmarks/results/inference.md` has what each of this gives).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_NODES = 2_000_000
"""Half of a larger forest would be held in memory twice: 64 MB more."""

PART_NODES = 80_000
"""Of the trees that are joined, half of which remain: scikit-learn copies them in one go, 2 ms in
which it keeps the interpreter. Each further part costs a call 5 us."""

LINE = 64
"""Bytes of a line of a processor's cache, and of a node."""

HEADER = 16
"""Bytes that the C library keeps in front of what it gives."""

FEW_ROWS = 200
"""Up to so many go through the joined trees; more are faster tree by tree."""

CELLS = 4_000_000
"""Values in the copies of those rows at most: 16 MB."""

_Apply = Callable[[NDArray[np.float32]], NDArray[np.intp]]


def one_tree(forest: Any) -> Callable[[NDArray[np.float64]], NDArray[np.float64]] | None:
    """Join a fitted forest of two classes; None when it is too large for that.

    Returns:
        (rows, columns) to (rows,): the mean over the trees of the positive class's share in the
        leaf, as `predict_proba` has it.
    """
    trees = [each.tree_ for each in forest.estimators_]
    if sum(tree.node_count for tree in trees) > MOST_NODES:
        return None
    columns = forest.n_features_in_
    shares = [shares_of(tree) for tree in trees]
    few = joined(trees, shares, columns)
    many = tree_by_tree([tree.apply for tree in trees], shares)
    most = min(FEW_ROWS, CELLS // (len(trees) * (columns + 1)))
    return lambda rows: few(rows) if len(rows) <= most else many(rows)


def rounded(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """The rows as scikit-learn's trees compare them, in C order.

    Raises:
        ValueError: a number is beyond float32, as a step may lead it; scikit-learn refuses it, too.
    """
    with np.errstate(over="ignore"):
        single = rows.astype(np.float32, order="C")
    if np.isinf(single).any():
        raise ValueError("a value is infinite or too large for float32 when it comes to the trees")
    return single


def shares_of(tree: Any) -> NDArray[np.float64]:
    """(nodes,) the positive class's share in each node."""
    negatives, positives = tree.value[:, 0].T
    found: NDArray[np.float64] = positives / (negatives + positives)
    return found


def tree_by_tree(
    applies: Sequence[_Apply], shares: Sequence[NDArray[np.float64]]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """The way for many rows; the interpreter is free while they walk through a tree.

    Others do get it then: in a trial an event loop beside batches of 200 to 10,000 rows was late by
    4-6 ms at most, and by 5-21 beside `predict_proba`.

    Args:
        applies: of each tree: (rows, columns) to the (rows,) leaves.
        shares: (nodes,) of each tree, what `shares_of` returns.
    """
    first = applies[0]
    pairs = list(zip(applies, shares, strict=True))

    def scores(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        given = rounded(rows)
        order = np.argsort(first(given), kind="stable")
        given = given[order]
        total = np.zeros(len(rows))
        for apply, share in pairs:
            total += share[apply(given)]
        found = np.empty(len(rows))
        found[order] = total / len(pairs)
        return found

    return scores


def joined(
    trees: Sequence[Any], shares: Sequence[NDArray[np.float64]], columns: int
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """The way for few rows: all trees in one call, or a few.

    Args:
        trees: scikit-learn's.
        shares: (nodes,) of each tree, what `shares_of` returns.
        columns: that the forest reads.
    """
    parts = [
        (each, *_join(trees[each], shares[each], columns))
        for each in _parts(tree.node_count for tree in trees)
    ]
    counts = [each.stop - each.start for each, _, _ in parts]
    numbers = np.concatenate([np.arange(count) for count in counts])[:, np.newaxis]

    def scores(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        # Tree by tree, so that its nodes stay in the processor's cache for all rows.
        given = np.empty((len(trees), len(rows), columns + 1), dtype=np.float32)
        given[:, :, :columns] = rounded(rows)
        given[:, :, columns] = numbers
        found = np.empty((len(trees), len(rows)))
        for part, apply, positive in parts:
            leaves = apply(given[part].reshape(-1, columns + 1))
            found[part] = positive[leaves].reshape(-1, len(rows))
        mean: NDArray[np.float64] = found.mean(axis=0)
        return mean

    return scores


def _parts(sizes: Iterable[int]) -> list[slice]:
    """The trees, by their numbers of nodes, in parts of at most `PART_NODES` where that can be."""
    starts, nodes, count = [0], 0, 0
    for count, size in enumerate(sizes, 1):
        if nodes and nodes + size > PART_NODES:
            starts.append(count - 1)
            nodes = 0
        nodes += size
    return [slice(start, stop) for start, stop in pairwise([*starts, count])]


def _join(
    trees: Sequence[Any], shares: Sequence[NDArray[np.float64]], columns: int
) -> tuple[_Apply, NDArray[np.float64]]:
    """Trees as the branches of one.

    A walk waits for the memory of each node that it comes to. So leaves with the same share, half
    of all nodes, are one, and what most rows turn to stands next.

    Returns:
        (rows, columns + 1) to the (rows,) leaves of the tree whose number is in the last column,
        and (nodes,) the positive class's share in each leaf.
    """
    from sklearn.tree._tree import Tree  # noqa: PLC0415 - when a model loads

    above = len(trees) - 1
    given = np.concatenate([tree.__getstate__()["nodes"] for tree in trees])
    share = np.concatenate(shares)
    starts = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
    sizes = np.diff(starts, append=len(given))
    inner = given["left_child"] >= 0
    offsets = np.repeat(starts, sizes)[inner]
    for side in ("left_child", "right_child"):
        given[side][inner] += offsets
    kept, first, which = np.unique(share[~inner], return_index=True, return_inverse=True)
    total = above + int(inner.sum()) + len(kept)

    places = _heavier_first(given, inner, starts, above)
    places[~inner] = total - len(kept) + which
    nodes = np.zeros(total, dtype=given.dtype)
    nodes[total - len(kept) :] = given[~inner][first]
    given = given[inner]
    for side in ("left_child", "right_child"):
        given[side] = places[given[side]]
    nodes[places[inner]] = given
    positive = np.zeros(total)
    positive[total - len(kept) :] = kept

    _route(nodes, places[starts].tolist(), columns)
    depth = max(each.max_depth for each in trees) + above.bit_length()
    values = np.zeros((total, 1, 2))  # `apply` looks at none
    state = {"max_depth": depth, "node_count": total, "nodes": nodes, "values": values}

    def made() -> Any:
        tree = Tree(columns + 1, np.array([2], dtype=np.intp), 1)
        tree.__setstate__(state)
        return tree

    return _well_placed(made).apply, positive


def _well_placed(make: Callable[[], Any]) -> Any:
    """A tree whose nodes begin 16 bytes before a line of the cache, if one of eight does.

    A node is as long as a line, and what decides at one then shares a line with what leads on from
    the next: a call takes a seventh less time. The next tree of a size stands 16 bytes further on,
    unless it is given pages of its own, which ends once such were given back.
    """
    passed: list[Any] = []
    for _ in range(8):
        tree = make()
        beyond = tree.__getstate__()["nodes"].ctypes.data % LINE
        if beyond == LINE - HEADER:
            break
        if beyond != HEADER or passed:  # the first one may be what has pages of its own
            passed.append(tree)
    return tree


def _heavier_first(
    nodes: NDArray[np.void], inner: NDArray[np.bool_], roots: NDArray[np.intp], first: int
) -> NDArray[np.intp]:
    """Where each inner node goes: behind its parent, the child that more training rows went to.

    Returns:
        (nodes,) numbers from `first` on; what stands for a leaf means nothing.
    """
    left, right = nodes["left_child"], nodes["right_child"]
    levels = [roots[inner[roots]]]
    while len(levels[-1]):
        below = np.concatenate((left[levels[-1]], right[levels[-1]]))
        levels.append(below[inner[below]])
    below_or_itself = inner.astype(np.intp)
    for level in reversed(levels):
        below_or_itself[level] += below_or_itself[left[level]] + below_or_itself[right[level]]
    places = np.zeros(len(nodes), dtype=np.intp)
    places[roots] = first + np.cumsum(below_or_itself[roots]) - below_or_itself[roots]
    weight = nodes["n_node_samples"]
    for level in levels:
        one, other = left[level], right[level]
        swapped = weight[one] < weight[other]
        near, far = np.where(swapped, other, one), np.where(swapped, one, other)
        places[near] = places[level] + 1
        places[far] = places[level] + 1 + below_or_itself[near]
    return places


def _route(nodes: NDArray[np.void], roots: list[int], column: int) -> None:
    """Fill the first nodes with a router: below them, tree n is where the column is n.

    No inner function that calls itself: that would be a cycle, which no collection would free.
    """
    free = 1
    todo = [(0, 0, len(roots))] if len(roots) > 1 else []
    while todo:
        node, low, high = todo.pop()
        middle = (low + high) // 2
        nodes[node]["feature"], nodes[node]["threshold"] = column, middle - 0.5
        for side, first, last in (("left_child", low, middle), ("right_child", middle, high)):
            if last - first == 1:
                nodes[node][side] = roots[first]
            else:
                nodes[node][side] = free
                todo.append((free, first, last))
                free += 1
