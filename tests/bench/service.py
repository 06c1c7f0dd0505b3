"""The design that the filter replaces: FastAPI takes a batch, PyJWT verifies its token, the
OpenTelemetry SDK exports it, and only then is it answered.

    uvicorn bench.service:app      with BENCH_PUBLIC_KEY and BENCH_BACKEND in the environment
"""

import os
from datetime import datetime

import jwt
from fastapi import FastAPI, HTTPException, Request
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.resources import Resource

SEVERITY = {"trace": 1, "debug": 5, "info": 9, "warning": 13, "error": 17, "fatal": 21}
KEY = os.environ["BENCH_PUBLIC_KEY"]

app = FastAPI()
exporter = OTLPLogExporter(endpoint=os.environ["BENCH_BACKEND"])


class Batch(LogRecordProcessor):
    """Keeps what is emitted, to be exported at once."""

    def __init__(self):
        self.records = []

    def on_emit(self, log_record):
        self.records.append(log_record)

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=0):
        return True


@app.post("/api/v1/logs")
def logs(body: dict, request: Request):
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    try:
        claims = jwt.decode(token, KEY, algorithms=["RS256"])
    except jwt.PyJWTError:
        raise HTTPException(401) from None
    batch = Batch()
    provider = LoggerProvider(resource=Resource(body.get("resource") or {}), shutdown_on_exit=False)
    provider.add_log_record_processor(batch)
    for record in body["logs"]:
        attributes = {
            **(record.get("attributes") or {}),
            "enduser.id": claims["sub"],
            "client_timestamp": record["timestamp"],
        }
        moment = datetime.fromisoformat(record["timestamp"].replace("Z", "+00:00"))
        level = record.get("level", "")
        provider.get_logger(record.get("logger", "")).emit(
            LogRecord(
                timestamp=int(moment.timestamp() * 1e9),
                body=record.get("message"),
                attributes=attributes,
                severity_text=level.upper(),
                severity_number=SeverityNumber(SEVERITY.get(level, 0)),
            )
        )
    if exporter.export(batch.records) is not LogRecordExportResult.SUCCESS:
        raise HTTPException(502)
    return {"accepted": len(batch.records), "rejected": 0}
