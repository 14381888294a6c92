"""The page at ``/docs``, drawn from the OpenAPI document."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any


def page(described: Mapping[str, Any]) -> str:
    """Return the document as a page for people."""
    parts = []
    for path, item in described["paths"].items():
        for method, operation in item.items():
            parts.append(_operation(path, method, operation, described))
    title = html.escape(described["info"]["summary"])
    return _PAGE.format(title=title, parts="\n".join(parts))


def _operation(
    path: str, method: str, operation: Mapping[str, Any], described: Mapping[str, Any]
) -> str:
    say = html.escape
    head = f"<h2><b>{say(method.upper())}</b> {say(path)}</h2><p>{say(operation['summary'])}</p>"
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    body = ""
    if content is not None and "examples" in content:
        schemas = described["components"]["schemas"]
        name = content["schema"]["$ref"].rpartition("/")[2].removesuffix(".request")
        body += _fields("Input", schemas.get(f"{name}.row"))
        body += _fields("Output", schemas.get(f"{name}.prediction"))
        example = json.dumps(content["examples"]["one"]["value"], indent=2, ensure_ascii=False)
        body += f'<textarea rows="{example.count(chr(10)) + 2}">{say(example)}</textarea>'
    answers = " ".join(operation["responses"])
    return (
        f'<form data-path="{say(path)}" data-method="{say(method.upper())}">{head}{body}'
        f"<button>Try it</button> <small>answers: {answers}</small><pre hidden></pre></form>"
    )


def _fields(title: str, schema: Mapping[str, Any] | None) -> str:
    if schema is None:
        return ""
    say = html.escape
    rows = []
    for name, field in schema["properties"].items():
        kind = field.get("type", "anything")
        kind = " or ".join(kind) if isinstance(kind, list) else kind
        kind += f" ({field['format']})" if "format" in field else ""
        limits = []
        for key, words in (("minimum", "at least"), ("maximum", "at most")):
            for found in (key, f"x-{key}"):
                if found in field:
                    limits.append(f"{words} {field[found]}")
        if "enum" in field:
            limits.append("one of " + ", ".join(json.dumps(v) for v in field["enum"]))
        needed = "" if name in schema.get("required", ()) else "may be left out"
        cells = (name, kind, "; ".join(limits), needed)
        rows.append("<tr>" + "".join(f"<td>{say(cell)}</td>" for cell in cells) + "</tr>")
    return f"<h3>{title}</h3><table>{''.join(rows)}</table>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }}
form {{ border-top: 1px solid #ccc; padding: 1rem 0; }}
h2 {{ font: 1.1rem ui-monospace, monospace; margin: 0; }} h2 b {{ color: #06c; }}
h3 {{ font-size: 1rem; margin: .5rem 0 0; }}
table {{ border-collapse: collapse; }} td {{ padding: .1rem 1rem .1rem 0; vertical-align: top; }}
textarea {{ width: 100%; box-sizing: border-box; font: 14px ui-monospace, monospace; }}
pre {{ background: #f4f4f4; padding: .5rem; overflow: auto; white-space: pre-wrap; }}
</style></head><body>
<h1>{title}</h1>
<p>The same as <a href="/openapi.json">OpenAPI 3.1</a>.
<label>API key, if the service wants one:
<input id="key" type="password" autocomplete="off"></label></p>
{parts}
<script src="/docs/try.js"></script>
</body></html>
"""
