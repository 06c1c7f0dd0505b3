"""What was received, as the official OpenTelemetry decoder reads it, in plain
Python values: the judge of the filter's encoding."""

import base64
from datetime import datetime, timedelta, timezone

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def decode(body: bytes) -> ExportLogsServiceRequest:
    """Raises google.protobuf.message.DecodeError where the bytes are no such message."""
    return ExportLogsServiceRequest.FromString(body)


def records_of(message) -> list:
    """One dict a LogRecord, in the order of the message.

    Keys: resource, scope, time_unix_nano, observed_time_unix_nano,
    severity_number, severity_text, body, attributes, dropped_attributes_count,
    flags, trace_id, span_id (ids in hex, "" where empty). An attribute name that
    stands twice in one place, which OTLP forbids, is listed in `duplicate_names`.
    """
    return [
        record_of(record, scope_logs.scope, resource_logs.resource)
        for resource_logs in message.resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
    ]


def record_of(record, scope, resource):
    duplicates = []
    return {
        "resource": mapping(resource.attributes, duplicates),
        "scope": scope.name,
        "time_unix_nano": record.time_unix_nano,
        "observed_time_unix_nano": record.observed_time_unix_nano,
        "severity_number": record.severity_number,
        "severity_text": record.severity_text,
        "body": plain(record.body, duplicates),
        "attributes": mapping(record.attributes, duplicates),
        "dropped_attributes_count": record.dropped_attributes_count,
        "flags": record.flags,
        "trace_id": record.trace_id.hex(),
        "span_id": record.span_id.hex(),
        "duplicate_names": duplicates,
    }


def plain(value, duplicates):
    """An AnyValue as str, bool, int, float, list or dict; None where it has no value.
    Bytes, which the filter never sends, become {"bytes": base64}."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [plain(item, duplicates) for item in value.array_value.values]
    if kind == "kvlist_value":
        return mapping(value.kvlist_value.values, duplicates)
    if kind == "bytes_value":
        return {"bytes": base64.b64encode(value.bytes_value).decode()}
    return getattr(value, kind)


def mapping(pairs, duplicates):
    names = {}
    for pair in pairs:
        if pair.key in names:
            duplicates.append(pair.key)
        names[pair.key] = plain(pair.value, duplicates)
    return names


# The same for every record of a request or a device: shown last, if there is room.
COMMON = ("server_received_at", "client_timestamp", "app.installation.id", "session.id")


def line(record, width=220) -> str:
    """A record as one line for people; what does not fit is in the JSON Lines file."""
    moment = EPOCH + timedelta(microseconds=record["time_unix_nano"] // 1000)
    names = sorted(record["attributes"], key=COMMON.__contains__)
    attributes = " ".join(f"{name}={short(record['attributes'][name])}" for name in names)
    text = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03} {record['severity_text'] or '-':<5} "
    text += f"{short(record['scope']) or '-'}: {short(record['body'], 100)}  {attributes}".rstrip()
    return short(text, width)


def short(value, limit=48):
    text = value if isinstance(value, str) else str(value)
    # Records come from outside: a terminal must not obey what is in them.
    text = "".join(char if char.isprintable() else "\\n" if char == "\n" else "?" for char in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
