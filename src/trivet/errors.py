"""Every exception that Trivet raises on purpose.

::

    TrivetError
    ├── SettingsError            trivet.toml: unknown keys, wrong types, missing files or variables
    ├── SchemaError              a schema that contradicts itself, or columns that do not fit it
    ├── MissingExtra             an optional library is not installed
    ├── ScheduleError            a schedule or an interval that cannot be understood
    ├── ModelError
    │   ├── ModelNotFound        nothing at that uri
    │   ├── InvalidModel         a manifest or an artifact that cannot be read
    │   ├── ChecksumMismatch     the artifact is not the one that was saved
    │   ├── IncompatibleModel    the installed library is too far from the one that saved it
    │   ├── UntrustedModel       loading it would run code, and nobody said that it may
    │   └── PredictionError      the model raised, or returned something else than its outputs
    ├── DatabaseError
    │   ├── UnsupportedDatabase  no driver for that scheme
    │   ├── QueryError           the database refused a statement
    │   ├── QueryTimeout         a query took longer than it may
    │   └── TransientError       the connection was lost, the database busy, its disk full: retry
    ├── AlertNotSent             a webhook or a mail server did not take an alert
    ├── ResultsError
    │   ├── ResultsEmpty         there are no results yet
    │   ├── ResultsOutdated      an older layout: `trivet results upgrade`
    │   └── ResultsTooNew        a newer layout than this program knows
    ├── BrokerError
    │   ├── UnsupportedBroker    no broker is known for that scheme
    │   ├── BrokerUnavailable    it cannot be reached: worth a retry
    │   ├── NotAuthorized        the account may not do that there
    │   ├── TopicNotFound        no such topic
    │   ├── EventTooLarge        the broker takes no event of that size
    │   ├── BufferFull           more events wait to be sent than may
    │   ├── MembershipLost       another member of the group has the partition now
    │   └── OffsetGone           the offset to read from fell out of retention
    ├── UpError                  `trivet up` cannot start what it should
    │   └── AlreadyUp            another `trivet up` has this project
    ├── ActionError              an action that cannot be carried out as it stands
    │   ├── DeliveryDelayed      not delivered, for a reason that passes: worth a retry
    │   └── DeliveryRefused      not delivered, and never will be
    └── RunError
        ├── IntervalBusy         another process runs that interval
        ├── RunStopped           it was asked to stop; its interval is due again
        ├── RunLost              this run was declared dead and another took its place
        ├── TooManyRejects       the reject rate is above `max_rejects`
        └── EmptyInterval        no rows, and `allow_empty = false`

A message names the place (file, key, column, row, table) and the next step; the classes carry
no protocol status: each host maps them to its own.
"""


class TrivetError(Exception):
    """Base of everything that Trivet raises on purpose; its text is fit for a user's eyes."""


class SettingsError(TrivetError):
    """``trivet.toml`` cannot be used as it stands; `findings` has one line a mistake."""

    def __init__(self, *findings: str) -> None:
        super().__init__("\n".join(findings))
        self.findings = findings


class SchemaError(TrivetError):
    """A schema contradicts itself, or the columns given do not fit it."""


class MissingExtra(TrivetError):
    """An optional library is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs a library that is not installed: pip install 'trivet[{extra}]'"
        )
        self.extra = extra


class ScheduleError(TrivetError):
    """A schedule or the name of an interval cannot be understood."""


class ModelError(TrivetError):
    """A model cannot be saved, found, loaded or asked."""


class ModelNotFound(ModelError):
    """Nothing is stored under that uri."""


class InvalidModel(ModelError):
    """A manifest or an artifact that cannot be read."""


class ChecksumMismatch(ModelError):
    """The artifact on disk is not the one that was saved."""


class IncompatibleModel(ModelError):
    """The installed library is too far from the one that saved the model."""


class UntrustedModel(ModelError):
    """Loading the model would run code that nobody has vouched for."""


class PredictionError(ModelError):
    """The model raised, or returned something that is not its declared output."""


class DatabaseError(TrivetError):
    """A database cannot be reached or used; never a driver's own exception."""


class UnsupportedDatabase(DatabaseError):
    """No driver is known for the scheme of that url."""


class QueryError(DatabaseError):
    """The database refused a statement."""


class QueryTimeout(DatabaseError):
    """A query took longer than it may; the same one may be faster over a shorter time."""


class TransientError(DatabaseError):
    """The connection was lost, the database is busy or its disk full: later it may succeed."""


class AlertNotSent(TrivetError):
    """A webhook or a mail server did not take an alert; it is tried again later."""


class ResultsError(TrivetError):
    """The results database cannot be used as it stands."""


class ResultsEmpty(ResultsError):
    """There are no results yet: nothing has run."""


class ResultsOutdated(ResultsError):
    """The results database has an older layout than this program."""


class ResultsTooNew(ResultsError):
    """The results database was upgraded by a newer program."""


class BrokerError(TrivetError):
    """A broker cannot be reached or used; never a driver's own exception."""


class UnsupportedBroker(BrokerError):
    """No broker is known for the scheme of that url."""


class BrokerUnavailable(BrokerError):
    """The broker cannot be reached: the same call may succeed later."""


class NotAuthorized(BrokerError):
    """The broker knows the account, which may not do that: a right is to be granted."""


class TopicNotFound(BrokerError):
    """The broker has no such topic."""


class EventTooLarge(BrokerError):
    """The broker takes no event of that size."""


class BufferFull(BrokerError):
    """More events wait to be sent than may: the caller decides what to do with the next one."""


class MembershipLost(BrokerError):
    """Another member of the group has the partition now; its work counts, not this one's."""


class OffsetGone(BrokerError):
    """The offset to read from fell out of the topic's retention."""


class UpError(TrivetError):
    """``trivet up`` cannot start what it should."""


class AlreadyUp(UpError):
    """Another ``trivet up`` has this project."""


class ActionError(TrivetError):
    """An action cannot be carried out as it stands."""


class DeliveryDelayed(ActionError):
    """A delivery did not arrive, for a reason that passes by itself.

    Attributes:
        after: Seconds that the receiver asked to wait; 0 if it did not.
    """

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class DeliveryRefused(ActionError):
    """A delivery will never arrive.

    Attributes:
        bounced: Whether the address was the reason.
    """

    def __init__(self, reason: str, *, bounced: bool = False) -> None:
        super().__init__(reason)
        self.bounced = bounced


class RunError(TrivetError):
    """A run ended without publishing."""


class IntervalBusy(RunError):
    """Another process is running that interval."""


class RunStopped(RunError):
    """The run was asked to stop before it was done; its interval is due again."""


class RunLost(RunError):
    """This run was declared dead while it worked; whatever replaced it counts."""


class TooManyRejects(RunError):
    """The share of rejected rows is above ``max_rejects``."""


class EmptyInterval(RunError):
    """The query returned no row, and ``allow_empty = false``."""
