"""`/api/v1/audit-logs`: what every service has on record."""

import json
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query

from contracts.audit_log import LARGEST_PAGE, KeptRecord, ListAuditRecords
from contracts.errors import ErrorCode
from contracts.principal import CredentialKind, PrincipalKind
from services.gateway.dialects.dialect import Body
from services.gateway.dialects.fastpki.parameters import Moment, Number, Skip, Text
from services.gateway.exchange import Current
from services.gateway.refusals import REFUSALS, described
from services.gateway.routes import BEARER, DialectRoute
from services.gateway.shapes import Detail, Issues

TOO_LONG: Final = "too long for a list"


class AuditLog(Body):
    """A record. `user_id` and `username` are of users alone; `detail` is JSON, as text.

    In `detail`: `outcome` (success, refused or failed), `object` (the resource's name), `actor`
    where it is no user, `request_id`, and as `detail` what else there is to say.
    """

    id: int
    created_at: datetime
    action: str
    user_id: int | None
    username: str | None
    organization_id: int | None
    resource_type: str
    resource_id: int | str
    detail: str

    @classmethod
    def of(cls, record: KeptRecord) -> "AuditLog":
        """Return the record as this dialect has it."""
        actor = record.actor
        is_user = actor.kind == PrincipalKind.USER
        return cls(
            id=record.position,
            created_at=record.time,
            action=record.action,
            user_id=int(actor.id) if is_user and _is_number(actor.id) else None,
            username=actor.name if is_user else None,
            organization_id=record.organization_id,
            resource_type=record.object.type,
            resource_id=int(record.object.id) if _is_number(record.object.id) else record.object.id,
            detail=_detail(record, names_actor=not is_user),
        )


def _is_number(text: str) -> bool:
    """Return whether it is the id of what has a number in this dialect."""
    return text.isascii() and text.isdigit() and str(int(text)) == text and int(text) < 2**63


def _detail(record: KeptRecord, *, names_actor: bool) -> str:
    said: dict[str, Any] = {"outcome": record.outcome, "object": record.object.name}
    if names_actor:
        said["actor"] = record.actor.model_dump(include={"kind", "id", "name"})
    said["request_id"] = record.request_id
    if record.detail != {}:
        said["detail"] = TOO_LONG if record.detail is None else record.detail
    return json.dumps(said, ensure_ascii=False)


class AuditLogRoute(DialectRoute):
    """For administrators, of their organisation's records, and superusers, of all."""

    security = (BEARER,)


router = APIRouter(
    prefix="/api/v1/audit-logs",
    route_class=AuditLogRoute,
    tags=["audit"],
    responses={
        int(HTTPStatus.UNPROCESSABLE_ENTITY): {"model": Issues},
        **described(
            REFUSALS,
            (ErrorCode.CREDENTIAL_MISSING, ErrorCode.CREDENTIAL_REFUSED, ErrorCode.FORBIDDEN),
            Detail,
        ),
    },
)


@router.get("", include_in_schema=False)
@router.get("/")
async def list_audit_logs(
    exchange: Current,
    action: Text = None,
    user_id: Number = None,
    resource_type: Text = None,
    resource_id: Text = None,
    since: Moment = None,
    until: Moment = None,
    skip: Skip = 0,
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 100,
) -> list[AuditLog]:
    """List records, the newest first; what was done before the request is among them."""
    actor, call = await exchange.caller(CredentialKind.BEARER)
    kept = await exchange.request(
        ListAuditRecords(
            call=call,
            actor=actor,
            action=action,
            user_id=user_id,
            object_type=resource_type,
            object_id=resource_id,
            since=since,
            until=until,
            skip=skip,
            limit=limit,
        )
    )
    return [AuditLog.of(record) for record in kept.records]
