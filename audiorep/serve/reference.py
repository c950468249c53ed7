"""The page `/docs`: the description of the API for people, without a script or anything from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

METHODS = ("get", "post")


def page(description: dict[str, Any]) -> str:
    """The description in OpenAPI as a page."""
    parts = [
        _operation(path, method, operations[method])
        for path, operations in description["paths"].items()
        for method in METHODS
        if method in operations
    ]
    about = description["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>{escape(about["title"])} API</title><link rel="stylesheet" href="page/reference.css"></head><body><main>'
        f"<h1>{escape(about['title'])} {escape(about['version'])}</h1><p>{escape(about['description'])}</p>"
        '<p>The same for programs: <a href="openapi.json">openapi.json</a>. The page for people: <a href="./">start</a>.</p>'
        f"{''.join(parts)}{LIVE}</main></body></html>"
    )


LIVE = """
<section><h2><span>WS</span> /v1/listen</h2><p>Live sound.</p>
<p>Query: <code>model</code>, <code>rate</code> in Hz (16000), <code>format</code> <code>f32le</code> or <code>s16le</code>,
<code>channels</code> (1), <code>hop</code> in seconds, <code>top</code> (20), <code>threshold</code>,
<code>windows</code> and <code>events</code> (true).
Send samples in binary messages, interleaved, of any length up to 1 MiB, and <code>{"type": "end"}</code> at the end.</p>
<p>What comes, each a text of JSON:</p>
<pre>{"type": "ready", "model": "nano", "sample_rate": 16000, "window_seconds": 0.975, "hop_seconds": 0.4875}
{"type": "window", "start": 0.0, "end": 0.975, "peak": 0.31, "scores": {"label": {"Siren": 0.91}}}
{"type": "event", "head": "label", "label": "Siren", "start": 0.0, "end": 0.975, "decided": 0.975, "score": 0.91, "open": true}
{"type": "end", "seconds": 5.0}
{"type": "error", "error": "…"}</pre>
<p>A token goes into the header <code>Authorization</code>, or from a page as the subprotocols <code>audiorep</code> and
<code>audiorep.token.</code> with the token in base64url behind it.</p></section>
"""


def _operation(path: str, method: str, about: dict[str, Any]) -> str:
    heading = f"<h2><span>{method.upper()}</span> {escape(path)}</h2>"
    text = f"<p>{escape(about.get('summary', ''))}. {escape(about.get('description', ''))}</p>"
    return f"<section>{heading}{text}{_parameters(about.get('parameters', []))}{_body(about)}{_answers(about)}</section>"


def _parameters(parameters: list[dict[str, Any]]) -> str:
    rows = [
        [f"<code>{escape(each['name'])}</code>", escape(_kind(each.get("schema", {}))), escape(each.get("description", ""))]
        for each in parameters
    ]
    return _table(["parameter", "type", "meaning"], rows) if rows else ""


def _table(heads: list[str], rows: list[list[str]]) -> str:
    """A table of HTML."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead><tbody>{body}</tbody></table>"


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    kinds = [each.get("type", "") for each in schema.get("anyOf", [schema])]
    return ", ".join(kind for kind in kinds if kind not in ("", "null"))


def _body(about: dict[str, Any]) -> str:
    kinds = about.get("requestBody", {}).get("content", {})
    return f"<p>Body: {', '.join(f'<code>{escape(kind)}</code>' for kind in kinds)}.</p>" if kinds else ""


def _answers(about: dict[str, Any]) -> str:
    answers = about.get("responses", {})
    rows = [[escape(status), escape(answer.get("description", ""))] for status, answer in answers.items()]
    examples = [
        f"<pre>{escape(_text(content['example']))}</pre>"
        for answer in answers.values()
        for content in answer.get("content", {}).values()
        if "example" in content
    ]
    return _table(["status", "meaning"], rows) + "".join(examples)


def _text(example: Any) -> str:
    return example if isinstance(example, str) else json.dumps(example, indent=2)
