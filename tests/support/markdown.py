"""Tables of Markdown read back."""

from __future__ import annotations

import markdown_it


def cells(text: str) -> list[list[str]]:
    """The rows of the tables in a Markdown text below their headers, as a reader sees them."""
    found: list[list[str]] = []
    inside = False
    for token in markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        inside = token.type == "tbody_open" or (inside and token.type != "tbody_close")
        if inside and token.type == "tr_open":
            found.append([])
        if inside and token.type == "inline":
            children = token.children or []
            assert {child.type for child in children} <= {"text", "text_special", "softbreak"}, token.content
            found[-1].append("".join("\n" if child.type == "softbreak" else child.content for child in children))
    return found
