"""Where files of the repository stand in the site, and links between them that work in both."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

DOCS = "docs/"

_FENCE = re.compile(r"^ *(`{3,}|~{3,})")
_INLINE = re.compile(r"(\]\()([^)\s]+)(\))")
_REFERENCE = re.compile(r"^(\[[^\]]+\]: +)(\S+)()$")
_ELSEWHERE = re.compile(r"^([a-z][a-z0-9+.-]*:|#)", re.IGNORECASE)


def in_site(path: str) -> str:
    """Where a file of the repository stands in the site; README.md is its first page."""
    if path == "README.md":
        return "index.md"
    return path.removeprefix(DOCS)


def in_repository(site: str, root: Path) -> str:
    """The file of the repository that stands there in the site."""
    if site == "index.md":
        return "README.md"
    return DOCS + site if (root / DOCS / site).exists() else site


def targets(page: str, text: str) -> Iterator[str]:
    """The files of the repository that a page links to, without anchors.

    Args:
        page: its path in the repository.
        text: its Markdown.
    """
    for line, code in _lines(text):
        for pattern in () if code else (_INLINE, _REFERENCE):
            for match in pattern.finditer(line):
                if not _ELSEWHERE.match(match[2]):
                    yield _resolved(page, match[2].partition("#")[0])


def rewritten(page: str, text: str, root: Path) -> str:
    """The page with the links that the site needs.

    Args:
        page: its path in the repository.
        text: its Markdown.
        root: of the repository; a link to a folder leads to the README.md in it.
    """
    here = posixpath.dirname(in_site(page))

    def link(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        if _ELSEWHERE.match(target):
            return match[0]
        path, hash_, anchor = target.partition("#")
        found = _resolved(page, path)
        if (root / found).is_dir():
            found = f"{found}/README.md"
        return f"{before}{posixpath.relpath(in_site(found), here or '.')}{hash_}{anchor}{after}"

    return "".join(line if code else _each(line, link) for line, code in _lines(text))


def outside(root: Path, pages: list[str]) -> set[str]:
    """The files outside of docs/ that pages lead to, and those that these lead to.

    Args:
        root: of the repository.
        pages: paths in the repository.
    """
    found: set[str] = set()
    left = list(pages)
    while left:
        page = left.pop()
        for target in targets(page, (root / page).read_text(encoding="utf-8")):
            if target.startswith(DOCS) or target in found or not (root / target).is_file():
                continue
            found.add(target)
            if target.endswith(".md"):
                left.append(target)
    return found


def _resolved(page: str, target: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target))


def _each(line: str, link: Callable[[re.Match[str]], str]) -> str:
    return _REFERENCE.sub(link, _INLINE.sub(link, line))


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Each line with its end, and whether it is code."""
    fence = ""
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
            yield line, True
        elif mark and mark[1].startswith(fence) and line.strip() == mark[1]:
            fence = ""
            yield line, True
        else:
            yield line, bool(fence)
