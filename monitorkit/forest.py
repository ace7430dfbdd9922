"""A random forest as one tree of scikit-learn's own: one call for a row instead of one a tree.

scikit-learn walks a tree fast, and takes 40 us to call it. So the trees become branches of one:
a router above them asks for one more column, the number of a tree, and each row is given once for
each number. Its leaves are the leaves that the trees would find.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_NODES = 2_000_000
"""A larger forest would be held in memory twice: 128 MB more."""

CELLS = 4_000_000
"""Values in the copies of the rows that are scored at once: 16 MB."""


def one_tree(forest: Any) -> Callable[[NDArray[np.float64]], NDArray[np.float64]] | None:
    """P(positive) of a fitted binary forest of scikit-learn; None: it is too large.

    Returns:
        (rows, columns) to (rows,): the mean over the trees of the positive class's share in the
        leaf, as `predict_proba` has it.
    """
    from sklearn.tree._tree import Tree  # noqa: PLC0415 - when a model loads

    trees = [each.tree_ for each in forest.estimators_]
    sizes = [tree.node_count for tree in trees]
    above = len(trees) - 1
    total = above + sum(sizes)
    if total > MOST_NODES:
        return None
    roots = above + np.cumsum([0, *sizes[:-1]])
    columns = forest.n_features_in_
    nodes = np.zeros(total, dtype=trees[0].__getstate__()["nodes"].dtype)
    values = np.ones((total, 1, 2))
    for root, tree in zip(roots, trees, strict=True):
        state = tree.__getstate__()
        branch = nodes[root : root + tree.node_count]
        branch[:] = state["nodes"]
        inner = branch["left_child"] >= 0
        branch["left_child"][inner] += root
        branch["right_child"][inner] += root
        values[root : root + tree.node_count] = state["values"]
    _route(nodes, roots.tolist(), columns)
    tree = Tree(columns + 1, np.array([2], dtype=np.intp), 1)
    depth = max(each.max_depth for each in trees) + above.bit_length()
    tree.__setstate__({"max_depth": depth, "node_count": total, "nodes": nodes, "values": values})
    positive = values[:, 0, 1] / values[:, 0].sum(axis=1)
    numbers = np.arange(len(trees), dtype=np.float32)[:, np.newaxis]

    most = max(1, CELLS // (len(trees) * (columns + 1)))

    def part(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        # Tree by tree, so that its nodes stay in the processor's cache for all rows.
        given = np.empty((len(trees), len(rows), columns + 1), dtype=np.float32)
        with np.errstate(over="ignore"):  # a number beyond float32 is infinite to these trees
            given[:, :, :columns] = rows
        given[:, :, columns] = numbers
        leaves = tree.apply(given.reshape(-1, columns + 1))
        found: NDArray[np.float64] = positive[leaves].reshape(len(trees), -1).mean(axis=0)
        return found

    def scores(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        if len(rows) <= most:
            return part(rows)
        starts = range(0, len(rows), most)
        return np.concatenate([part(rows[start : start + most]) for start in starts])

    return scores


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
