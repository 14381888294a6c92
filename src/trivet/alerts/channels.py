"""How an alert is told: by a webhook, by mail."""

from __future__ import annotations

import datetime as dt
import smtplib
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Any
from urllib.parse import unquote, urlsplit

import tenacity

from trivet.alerts.ledger import Notice
from trivet.alerts.settings import AlertSettings
from trivet.databases import redact
from trivet.errors import AlertNotSent, MissingExtra

TIMEOUT = 10.0
"""Seconds that one try may take."""

_TRIES = 3

Channel = Callable[[Notice], None]


def channels(settings: AlertSettings, project: str) -> list[Channel]:
    """Return what tells of an alert; each raises `AlertNotSent` if it cannot.

    Raises:
        MissingExtra: A library is not installed.
    """
    found: list[Channel] = []
    if settings.webhook:
        try:
            import httpx  # noqa: F401, PLC0415 - an extra
        except ImportError as error:
            raise MissingExtra("a webhook", "actions") from error
        found.append(lambda notice: _post(settings.webhook, project, notice))
    if settings.email:
        found.append(lambda notice: _mail(settings, project, notice))
    return found


def key_of(project: str, notice: Notice) -> str:
    """Return the text by which a receiver knows a message that comes twice."""
    return f"{project}-alert-{notice.id}-{notice.state}"


def payload(project: str, notice: Notice) -> dict[str, Any]:
    """Return what a webhook is sent."""
    alert = notice.alert
    at = notice.resolved_at or notice.raised_at
    return {
        "project": project,
        "alert": notice.id,
        "state": notice.state,
        "deployment": alert.deployment,
        "kind": alert.kind,
        "subject": alert.subject,
        "message": alert.message,
        "value": alert.value,
        "threshold": alert.threshold,
        "raised_at": _iso(notice.raised_at),
        "at": _iso(at),
        "text": title(project, notice) + ": " + alert.message,
    }


def title(project: str, notice: Notice) -> str:
    """Return an alert in one line."""
    alert = notice.alert
    what = f"{alert.kind} {alert.subject}".strip()
    return f"[{project}] {alert.deployment}: {what} {notice.state}"


def _post(url: str, project: str, notice: Notice) -> None:
    import httpx  # noqa: PLC0415 - see above

    def once() -> None:
        answer = httpx.post(
            url,
            json=payload(project, notice),
            headers={"Idempotency-Key": key_of(project, notice)},
            timeout=TIMEOUT,
            follow_redirects=False,
        )
        answer.raise_for_status()

    def passes(error: BaseException) -> bool:
        if isinstance(error, httpx.HTTPStatusError):
            return error.response.status_code >= 500 or error.response.status_code == 429
        return isinstance(error, httpx.TransportError)

    host = urlsplit(url).hostname  # its path may hold a secret
    with _told(f"webhook to {host}", httpx.HTTPError, httpx.InvalidURL):
        _persistently(once, passes)


def _mail(settings: AlertSettings, project: str, notice: Notice) -> None:
    message = EmailMessage()
    message["Subject"] = " ".join(title(project, notice).split())
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.email)
    message["Message-ID"] = f"<{key_of(project, notice)}@{settings.sender.rpartition('@')[2]}>"
    since = f"since {notice.raised_at:%Y-%m-%d %H:%M} UTC"
    if notice.resolved_at is not None:
        since += f", over at {notice.resolved_at:%Y-%m-%d %H:%M} UTC"
    message.set_content(f"{notice.alert.message}\n\n{since}\n")
    server = urlsplit(settings.smtp)

    def once() -> None:
        with _connected(server.scheme == "smtps", server.hostname or "", server.port) as smtp:
            if server.username:
                smtp.login(unquote(server.username), unquote(server.password or ""))
            smtp.send_message(message)

    def passes(error: BaseException) -> bool:
        if isinstance(error, smtplib.SMTPResponseException):
            return 400 <= error.smtp_code < 500
        return isinstance(error, OSError) and not isinstance(error, smtplib.SMTPException)

    with _told(f"mail by {redact(settings.smtp)}", smtplib.SMTPException, OSError):
        _persistently(once, passes)


@contextmanager
def _connected(tls: bool, host: str, port: int | None) -> Iterator[smtplib.SMTP]:
    context = ssl.create_default_context()
    if tls:
        with smtplib.SMTP_SSL(host, port or 465, timeout=TIMEOUT, context=context) as smtp:
            yield smtp
        return
    with smtplib.SMTP(host, port or 587, timeout=TIMEOUT) as smtp:
        smtp.ehlo()
        if smtp.has_extn("starttls"):
            smtp.starttls(context=context)
        yield smtp


def _persistently(once: Callable[[], None], passes: Callable[[BaseException], bool]) -> None:
    tenacity.Retrying(
        retry=tenacity.retry_if_exception(passes),
        stop=tenacity.stop_after_attempt(_TRIES),
        wait=tenacity.wait_exponential(multiplier=0.2, max=2),
        reraise=True,
    )(once)


@contextmanager
def _told(what: str, *kinds: type[BaseException]) -> Iterator[None]:
    try:
        yield
    except kinds as error:
        text = str(error).partition("\n")[0]
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = f"it answered {status}" if status else (text or type(error).__name__)
        raise AlertNotSent(f"{what}: {reason}; see [alerts] in trivet.toml") from error


def _iso(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
