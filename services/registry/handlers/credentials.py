"""Who a credential stands for."""

from contracts.audit import Actor, AuditObject
from contracts.errors import ErrorCode
from contracts.principal import CredentialKind
from contracts.registry import ResolveCredentials, ResolvedCredentials
from services.registry.identity import note_use
from services.registry.service import Registry
from services.registry.store import credentials
from services.registry.store.credentials import Resolved


async def resolve_credentials(
    command: ResolveCredentials, registry: Registry
) -> ResolvedCredentials:
    """Say who the credentials stand for at this moment, and record those that are refused."""
    questions = command.questions
    async with registry.runtime.database.connection() as connection:
        answers = await credentials.resolve(connection, [q.credential for q in questions])
        for question, answer in zip(questions, answers, strict=True):
            if answer.accepted:
                await note_use(registry, connection, answer, question.request_id)
    for question, answer in zip(questions, answers, strict=True):
        if not answer.accepted:
            await _record_refusal(question, answer, registry)
    return ResolvedCredentials(
        principals=tuple(answer.principal if answer.accepted else None for answer in answers)
    )


async def _record_refusal(
    question: ResolveCredentials.Question, answer: Resolved, registry: Registry
) -> None:
    credential = question.credential
    # A token's hash stays out of the log: what was presented may be a weak password.
    shown = credential.sha256 if credential.kind is CredentialKind.CERTIFICATE else None
    await registry.runtime.refuse(
        question.source_address or "",
        answer.principal or Actor(kind="unknown", id="", name="", fingerprint=shown),
        "credential_resolve",
        AuditObject(type="credential", id=shown or "", name=credential.kind),
        ErrorCode.CREDENTIAL_REFUSED,
        question.request_id,
    )
