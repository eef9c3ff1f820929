"""Where a password gets a token."""

from tests.e2e.authorization.table import Row, everybody

WRONG = {"username": "nobody", "password": "wrong", "grant_type": "password"}

TABLE = (
    Row(
        "POST /api/v1/auth/token",
        everybody("401 Incorrect username or password"),
        WRONG,
        form=True,
    ),
)
