"""A random forest fast: a few rows go through all trees in one call, many rows tree by tree.

scikit-learn walks a tree fast, and takes 40 us to call it. So for a few rows the trees become
branches of one: a router above them asks for one more column, the number of a tree, and each row is
given once for each number. Its leaves are the leaves that the trees would find.

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
"""A larger forest would be held in memory twice: 128 MB more."""

PART_NODES = 40_000
"""Of the trees that are joined; scikit-learn copies them in one go, 2 ms in which it keeps the
interpreter. Each further part costs a call 5 us."""

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
        with np.errstate(over="ignore"):  # a number beyond float32 is infinite to these trees
            given = rows.astype(np.float32, order="C")
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
        with np.errstate(over="ignore"):
            given[:, :, :columns] = rows
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

    Returns:
        (rows, columns + 1) to the (rows,) leaves of the tree whose number is in the last column,
        and (nodes,) the positive class's share in each.
    """
    from sklearn.tree._tree import Tree  # noqa: PLC0415 - when a model loads

    sizes = [tree.node_count for tree in trees]
    above = len(trees) - 1
    total = above + sum(sizes)
    roots = above + np.cumsum([0, *sizes[:-1]])
    nodes = np.zeros(total, dtype=trees[0].__getstate__()["nodes"].dtype)
    positive = np.zeros(total)
    for root, tree, share in zip(roots, trees, shares, strict=True):
        branch = nodes[root : root + tree.node_count]
        branch[:] = tree.__getstate__()["nodes"]
        inner = branch["left_child"] >= 0
        branch["left_child"][inner] += root
        branch["right_child"][inner] += root
        positive[root : root + tree.node_count] = share
    _route(nodes, roots.tolist(), columns)
    joined = Tree(columns + 1, np.array([2], dtype=np.intp), 1)
    depth = max(each.max_depth for each in trees) + above.bit_length()
    values = np.zeros((total, 1, 2))  # `apply` looks at none
    joined.__setstate__({"max_depth": depth, "node_count": total, "nodes": nodes, "values": values})
    return joined.apply, positive


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
