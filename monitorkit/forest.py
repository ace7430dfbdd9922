"""A random forest as a few trees of scikit-learn's own: one call for a row, not one for each tree.

scikit-learn walks a tree fast, and takes 40 us to call it. So the trees become branches of one:
a router above them asks for one more column, the number of a tree, and each row is given once for
each number. Its leaves are the leaves that the trees would find.
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

CELLS = 4_000_000
"""Values in the copies of the rows that are scored at once: 16 MB."""


def one_tree(forest: Any) -> Callable[[NDArray[np.float64]], NDArray[np.float64]] | None:
    """P(positive) of a fitted binary forest of scikit-learn; None: it is too large.

    Returns:
        (rows, columns) to (rows,): the mean over the trees of the positive class's share in the
        leaf, as `predict_proba` has it.
    """
    trees = [each.tree_ for each in forest.estimators_]
    if sum(tree.node_count for tree in trees) > MOST_NODES:
        return None
    columns = forest.n_features_in_
    parts = [(each, *_join(trees[each], columns)) for each in _parts(t.node_count for t in trees)]
    counts = [each.stop - each.start for each, _, _ in parts]
    numbers = np.concatenate([np.arange(count) for count in counts])[:, np.newaxis]
    most = max(1, CELLS // (len(trees) * (columns + 1)))

    def some(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        # Tree by tree, so that its nodes stay in the processor's cache for all rows.
        given = np.empty((len(trees), len(rows), columns + 1), dtype=np.float32)
        with np.errstate(over="ignore"):  # a number beyond float32 is infinite to these trees
            given[:, :, :columns] = rows
        given[:, :, columns] = numbers
        shares = np.empty((len(trees), len(rows)))
        for part, apply, positive in parts:
            leaves = apply(given[part].reshape(-1, columns + 1))
            shares[part] = positive[leaves].reshape(-1, len(rows))
        found: NDArray[np.float64] = shares.mean(axis=0)
        return found

    def scores(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        if len(rows) <= most:
            return some(rows)
        starts = range(0, len(rows), most)
        return np.concatenate([some(rows[start : start + most]) for start in starts])

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
    trees: Sequence[Any], columns: int
) -> tuple[Callable[[NDArray[np.float32]], NDArray[np.intp]], NDArray[np.float64]]:
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
    for root, tree in zip(roots, trees, strict=True):
        state = tree.__getstate__()
        branch = nodes[root : root + tree.node_count]
        branch[:] = state["nodes"]
        inner = branch["left_child"] >= 0
        branch["left_child"][inner] += root
        branch["right_child"][inner] += root
        negatives, positives = state["values"][:, 0].T
        positive[root : root + tree.node_count] = positives / (negatives + positives)
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
