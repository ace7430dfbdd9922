"""What mkdocs calls: adds the pages that stand elsewhere or are made, and turns links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from docs_site import links, reference

ROOT = Path(__file__).parents[1]


def on_files(files: Files, *, config: Any) -> Files:
    """Add what docs/ links to outside of it, README.md as the first page, and the reference."""
    pages = [f"{links.DOCS}{file.src_uri}" for file in files.documentation_pages()]
    for path in sorted({"README.md", *links.outside(ROOT, ["README.md", *pages])}):
        source = str((ROOT / path).resolve())
        files.append(File.generated(config, links.in_site(path), abs_src_path=source))
    for name, text in reference.pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Turn the links of a page that stands in the repository."""
    del config, files
    site = page.file.src_uri
    if site.startswith("reference/"):
        return markdown
    return links.rewritten(links.in_repository(site, ROOT), markdown, ROOT)
