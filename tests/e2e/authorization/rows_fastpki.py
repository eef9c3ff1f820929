"""The fastpki dialect, where it has no matrix of its own: certificates count for nothing there."""

from tests.e2e.authorization.table import Row, everybody

WRONG = {"username": "nobody", "password": "wrong", "grant_type": "password"}
OF_SUPERUSERS = {
    **everybody("401 Not authenticated"),
    "made-up token": "401 Invalid or expired credential",
    "superuser": "200",
    "user": "403 Insufficient permissions",
    "organisation's administrator": "200",  # of the own organisation
    "key that may everything, as a Bearer token": "403 Insufficient permissions",
}

TABLE = (
    Row(
        "POST /api/v1/auth/token",
        everybody("401 Incorrect username or password"),
        WRONG,
        form=True,
    ),
    Row("GET /api/v1/audit-logs", OF_SUPERUSERS),
)
