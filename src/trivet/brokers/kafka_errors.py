"""What librdkafka says, turned into our exceptions in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from trivet.errors import (
    BrokerError,
    BrokerUnavailable,
    EventTooLarge,
    MembershipLost,
    NotAuthorized,
    OffsetGone,
    TopicNotFound,
)

REBALANCING = {KafkaError.REBALANCE_IN_PROGRESS}

_KINDS: dict[int, type[BrokerError]] = {
    **dict.fromkeys(
        (
            KafkaError.ILLEGAL_GENERATION,
            KafkaError.UNKNOWN_MEMBER_ID,
            KafkaError.FENCED_INSTANCE_ID,
            KafkaError.INVALID_PRODUCER_EPOCH,
            KafkaError.PRODUCER_FENCED,
            KafkaError._FENCED,
            KafkaError._ASSIGNMENT_LOST,
        ),
        MembershipLost,
    ),
    **dict.fromkeys(
        (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
            KafkaError.CLUSTER_AUTHORIZATION_FAILED,
            KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ),
        NotAuthorized,
    ),
    **dict.fromkeys(
        (
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            KafkaError.UNKNOWN_TOPIC_ID,
            KafkaError._UNKNOWN_TOPIC,
            KafkaError._UNKNOWN_PARTITION,
        ),
        TopicNotFound,
    ),
    **dict.fromkeys((KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET), OffsetGone),
    **dict.fromkeys(
        (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE), EventTooLarge
    ),
    **dict.fromkeys(
        (
            KafkaError._TRANSPORT,
            KafkaError._ALL_BROKERS_DOWN,
            KafkaError._DESTROY_BROKER,
            KafkaError._RESOLVE,
            KafkaError._TIMED_OUT,
            KafkaError._TIMED_OUT_QUEUE,
            KafkaError._MSG_TIMED_OUT,
            KafkaError._WAIT_COORD,
            KafkaError._PREV_IN_PROGRESS,
            KafkaError.LEADER_NOT_AVAILABLE,
            KafkaError.NOT_LEADER_FOR_PARTITION,
            KafkaError.REQUEST_TIMED_OUT,
            KafkaError.BROKER_NOT_AVAILABLE,
            KafkaError.NETWORK_EXCEPTION,
            KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
            KafkaError.COORDINATOR_NOT_AVAILABLE,
            KafkaError.NOT_COORDINATOR,
            KafkaError.NOT_ENOUGH_REPLICAS,
            KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            KafkaError.REBALANCE_IN_PROGRESS,
            KafkaError.CONCURRENT_TRANSACTIONS,
            KafkaError.FENCED_LEADER_EPOCH,
            KafkaError.UNKNOWN_LEADER_EPOCH,
        ),
        BrokerUnavailable,
    ),
}
_REFUSED = {
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
}


def error_of(error: KafkaError, what: str) -> BrokerError:
    """Return our exception for an error of librdkafka's.

    Args:
        error: The error.
        what: The broker, topic or act, for the message.
    """
    kind = _KINDS.get(error.code())
    if kind is None:
        kind = BrokerUnavailable if error.retriable() and not error.fatal() else BrokerError
    return kind(f"{what}: {error.str().strip()} ({error.name()})")


def cause(before: KafkaError | None, error: KafkaError) -> KafkaError:
    """Return which of two errors says more: that all brokers are down follows from another."""
    is_summary = error.code() == KafkaError._ALL_BROKERS_DOWN
    return before if before is not None and is_summary else error


def is_refusal(error: KafkaError | None) -> bool:
    """Say whether the broker was reached and let us not in."""
    return error is not None and error.code() in _REFUSED


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn any exception of librdkafka's into one of ours that says what failed."""
    try:
        yield
    except KafkaException as error:
        raise error_of(error.args[0], what) from None
