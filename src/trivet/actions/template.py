"""A message from one Markdown file: its subject, its text, and the same text as HTML.

::

    Subject: {{ first_name }}, twenty per cent off

    Dear {{ first_name }}, …

Values come from the contacts and from the selected row. They are data wherever they are put: line
breaks and control characters become spaces, so that no value can begin a header, and Markdown's
signs are escaped on the way to HTML, so that none can become a link. Raw HTML stays text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trivet.errors import ActionError, MissingExtra

_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+")
_MARKS = re.compile(r"([!-/:-@\[-`{-~])")


@dataclass(frozen=True, slots=True)
class Rendered:
    """One message's words."""

    subject: str
    text: str
    html: str


class Template:
    """A template, read and checked.

    Args:
        source: The file's text.
        where: What to call it in messages.

    Attributes:
        names: The values that it names.

    Raises:
        ActionError: It has no subject, or its syntax is wrong.
        MissingExtra: The libraries are not installed.
    """

    def __init__(self, source: str, where: str) -> None:
        try:
            import markdown_it  # noqa: PLC0415 - an extra, loaded where it is used
            from jinja2 import StrictUndefined, TemplateError, meta  # noqa: PLC0415
            from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtra("a template", "actions") from error
        self._where = where
        self._wrong = TemplateError
        head, _, body = source.replace("\r\n", "\n").lstrip("\ufeff\n").partition("\n")
        label, colon, subject = head.partition(":")
        if label.strip().lower() != "subject" or not colon or not subject.strip():
            raise ActionError(f"{where}: its first line is no subject; write Subject: …")
        plain = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_plain)
        marked = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_escaped)
        try:
            self._subject = plain.from_string(subject.strip())
            self._text = plain.from_string(body.strip())
            self._marked = marked.from_string(body.strip())
            self.names = frozenset(meta.find_undeclared_variables(plain.parse(subject + body)))
        except TemplateError as error:
            raise ActionError(f"{where}: {error}; correct the template") from error
        self._html = markdown_it.MarkdownIt("commonmark", {"html": False})

    def render(self, values: Mapping[str, Any]) -> Rendered:
        """Fill in the values of one message.

        Raises:
            ActionError: It names a value that there is not, or fails on this one.
        """
        try:
            subject = _plain(self._subject.render(values)).strip()
            text = self._text.render(values)
            html = self._html.render(self._marked.render(values))
        except self._wrong as error:
            # The values are somebody's: the error names the template's part, never one of them.
            names = ", ".join(sorted(values)) or "none"
            raise ActionError(f"{self._where}: {error.message}; there are {names}") from None
        except Exception as error:  # noqa: BLE001 - an expression of the user's: anything may come
            raise ActionError(
                f"{self._where}: {type(error).__name__} while it was filled in; guard against a "
                "missing value, such as {{ name or 'there' }}"
            ) from None
        return Rendered(subject, text + "\n", html)


def _plain(value: Any) -> Any:
    return _UNFIT.sub(" ", value) if isinstance(value, str) else value


def _escaped(value: Any) -> Any:
    return _MARKS.sub(r"\\\1", _plain(value)) if isinstance(value, str) else value
