"""A batch as the apps in the field send it: both generations of clients, an error
with its trace, a crash with breadcrumbs, and the odd placeholder."""

import uuid
from datetime import datetime, timedelta, timezone

STACK = (
    "#0      AuthService.refresh (package:field_app/auth/service.dart:118:7)\n"
    "<asynchronous suspension>\n"
    "#1      SessionGuard.ensureFresh (package:field_app/auth/guard.dart:44:5)\n"
    "<asynchronous suspension>\n"
    "#2      ApiClient.send (package:field_app/net/client.dart:203:12)\n"
)


def batch(now=None, user="3f1c9a52-7a53-4f0e-9b55-0c1d9d0a8c11") -> dict:
    """The body of one request; its records were made in the seconds before `now`."""
    now = now or datetime.now(timezone.utc)
    install, session = str(uuid.uuid4()), str(uuid.uuid4())

    def at(seconds_ago, digits=3):
        moment = now - timedelta(seconds=seconds_ago)
        text = moment.strftime("%Y-%m-%dT%H:%M:%S.%f")
        return (text if digits == 6 else text[:-3]) + "Z"

    def first(seconds_ago, level, logger, message, **more):
        """As the first generation spells it."""
        return {
            "timestamp": at(seconds_ago), "level": level, "logger": logger, "message": message, "attributes": {},
            "error": None, "stackTrace": None, "spanId": None, "traceId": None,
            "installId": install, "sessionId": session, "userId": user, **more,
        }

    def second(seconds_ago, level, logger, message, **more):
        """As the second generation spells it."""
        return {
            "timestamp": at(seconds_ago, 6), "level": level, "logger": logger, "message": message, "attributes": {},
            "error": None, "stack_trace": None, "span_id": None, "trace_id": None,
            "install_id": install, "session_id": session, "user_id": user, "active_run": None, **more,
        }

    crumbs = [
        {"timestamp": at(9), "level": "info", "logger": "Router.Home", "message": "push /rooms", "category": "ui"},
        {"timestamp": at(6), "level": "info", "logger": "Http", "message": "GET /rooms 200", "category": "network"},
        {"timestamp": at(3), "level": "info", "logger": "Lifecycle", "message": "resumed", "category": "system"},
    ]
    return {
        "logs": [
            first(12, "debug", "Router.Home", "push /rooms", userId=None, attributes={"from": "/", "depth": 3}),
            first(11, "info", "Auth", "User logged in", attributes={"method": "oidc", "http_status": 200}),
            first(8, "warning", "Http", "slow response", attributes={
                "duration_ms": 4123.75, "retry": False, "hosts": ["a.example", "b.example"],
                "timing": {"dns": 12, "tls": 80.5}}),
            first(7, "error", "Auth", "Token refresh failed", attributes={"attempt": 2}, stackTrace=STACK,
                  error="FormatException: Unexpected character (at character 1)",
                  traceId=uuid.uuid4().hex, spanId=uuid.uuid4().hex[:16]),
            second(5, "trace", "Sync", "tick", attributes={"n": 1}),
            second(4, "info", "Chat", "Nachricht gesendet ✅ – 你好",
                   attributes={"length": 42, "big": 9007199254740993},
                   active_run={"thread_id": "t-19", "run_id": "r-7"}),
            second(2, "fatal", "FlutterError", "Flutter framework error", error="Bad state: No element",
                   stack_trace=STACK, breadcrumbs=crumbs, active_run={"thread_id": "t-19", "run_id": None}),
            {"timestamp": at(1), "level": "warning", "logger": "Http",
             "message": "[record exceeded 65536B after truncation]",
             "installId": None, "sessionId": None, "userId": None},
        ],
        "resource": {
            "service.name": "field-app", "service.version": "1.4.2", "os.name": "android", "os.version": "15",
            "device.model": "Pixel 7", "deployment.environment": "local", "app.build_number": 412,
            "device.rooted": False,
        },
    }
