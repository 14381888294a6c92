"""Deliveries as mails, over one connection for as long as it holds."""

from __future__ import annotations

import email.message
import email.policy
import email.utils
import re
import smtplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from email.headerregistry import Address

from trivet.actions.channels import Message
from trivet.actions.targets import Target
from trivet.errors import ActionError, DeliveryDelayed, DeliveryRefused

SECONDS = 30.0
_ENHANCED = re.compile(rb"\A[245]\.\d{1,3}\.\d{1,3}(?=\s|\Z)")
_TOO_LARGE, _GOING = 552, 421
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Smtp:
    """A mail server.

    Args:
        target: The server.
        sender: Who mails are from.
        address: The column of the contact that has the address.

    Raises:
        ActionError: The sender is no address.
    """

    most = 1

    def __init__(self, target: Target, sender: str, address: str) -> None:
        self._target = target
        self._column = address
        self._server: smtplib.SMTP | None = None
        probe = email.message.EmailMessage(email.policy.SMTP)
        try:
            probe["From"] = sender
            (self._sender,) = probe["From"].addresses
            Address(addr_spec=self._sender.addr_spec)
        except Exception as error:  # the parser of the standard library raises what it likes
            raise ActionError(
                f'sender: {sender!r} is no address; write "Shop <shop@example.com>"'
            ) from error

    def look(self) -> str:
        self._connected()
        return f"{self._target.host}:{self._target.port} answers"

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            mail = self._mail(message)
            server = self._connected()
            with self._understood():
                server.send_message(mail, self._sender.addr_spec, mail["To"].addresses[0].addr_spec)

    def close(self) -> None:
        if self._server is not None:
            with suppress(smtplib.SMTPException, OSError):
                self._server.quit()
            self._server = None

    def _mail(self, message: Message) -> email.message.EmailMessage:
        if self._column not in message.contact:
            raise ActionError(
                f"contacts: it has no column {self._column!r} for the address; select it, or name "
                f"another in address"
            )
        try:
            to = Address(addr_spec=str(message.contact[self._column] or ""))
            to.addr_spec.encode("ascii")
        except Exception:  # noqa: BLE001 - see above
            raise DeliveryRefused("the address is not one", bounced=True) from None
        assert message.words is not None  # the settings see to it
        mail = email.message.EmailMessage(email.policy.SMTP)
        mail["From"] = self._sender
        mail["To"] = to
        mail["Subject"] = message.words.subject
        mail["Date"] = email.utils.localtime()
        mail["Message-ID"] = f"<{message.id}@{self._sender.domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.words.text)
        mail.add_alternative(message.words.html, subtype="html")
        return mail

    def _connected(self) -> smtplib.SMTP:
        """Return the connection; what goes wrong here is not the message's fault."""
        if self._server is None:
            host = self._target.host
            try:
                self._server = self._opened()
            except smtplib.SMTPAuthenticationError as error:
                raise ActionError(
                    f"deliver: {host} does not take user and password "
                    f"({_code(error.smtp_code, error.smtp_error)}); correct them"
                ) from None
            except smtplib.SMTPNotSupportedError:
                raise ActionError(
                    f"deliver: {host} takes no password; leave user and password out"
                ) from None
            except (smtplib.SMTPException, OSError) as error:
                raise DeliveryDelayed(f"{host}: {type(error).__name__}") from None
        return self._server

    def _opened(self) -> smtplib.SMTP:
        target, secure = self._target, ssl.create_default_context()
        private = target.scheme == "smtps"
        server = (
            smtplib.SMTP_SSL(target.host, target.port, timeout=SECONDS, context=secure)
            if private
            else smtplib.SMTP(target.host, target.port, timeout=SECONDS)
        )
        try:
            server.ehlo()
            if not private and server.has_extn("starttls"):
                server.starttls(context=secure)
                server.ehlo()
                private = True
            if target.user:
                if not private and target.host not in _LOOPBACK:
                    raise ActionError(
                        f"deliver: {target.host} offers no encryption, and the password would go "
                        "to it in the clear; write smtps://, or leave user and password out"
                    )
                server.login(target.user, target.password)
        except BaseException:
            server.close()
            raise
        return server

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Turn what the library raises into ours; texts of a server may quote the address."""
        try:
            yield
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            raise _refusal(code, text, bounced=True) from None
        except smtplib.SMTPSenderRefused as error:
            if error.smtp_code < 500 or error.smtp_code == _TOO_LARGE:
                raise _refusal(error.smtp_code, error.smtp_error) from None
            raise ActionError(
                f"sender: {self._target.host} refuses it "
                f"({_code(error.smtp_code, error.smtp_error)}); correct it"
            ) from None
        except smtplib.SMTPResponseException as error:
            if error.smtp_code == _GOING:
                self.close()
            raise _refusal(error.smtp_code, error.smtp_error) from None
        except smtplib.SMTPNotSupportedError as error:
            raise DeliveryRefused(f"the mail server cannot take it: {error}") from None
        except (smtplib.SMTPException, OSError) as error:
            self._server = None
            raise DeliveryDelayed(f"{self._target.host}: {type(error).__name__}") from None


def _refusal(
    code: int, text: bytes | str, *, bounced: bool = False
) -> DeliveryDelayed | DeliveryRefused:
    reason = f"SMTP {_code(code, text)}"
    return DeliveryRefused(reason, bounced=bounced) if code >= 500 else DeliveryDelayed(reason)


def _code(code: int, text: bytes | str) -> str:
    raw = text.encode() if isinstance(text, str) else text
    found = _ENHANCED.match(raw)
    return f"{code} {found[0].decode()}" if found else str(code)
