"""An order's way to its certificate (RFC 8555 section 7.4). The CA's own order is where it stands.

1. The key of the certificate is made and committed before anybody hears of the order.
2. The account is confirmed by the CA; its key was committed before.
3. The CA takes the order in, and its URL is committed: from here on the order is the one it knows.
4. Pending: each challenge is answered (`answers.py`), and the CA told to look.
5. Ready: the CSR is handed in. Processing: waited for.
6. Valid: the chain is fetched and checked against the key and the names.
7. Certificate, event and audit record are committed, and the answers to challenges end.
8. The files of this replica are written, the server reloaded; then the order has ended.

Whoever finds an order, after whatever crash, begins at 1 and finds done what was committed; what
was not committed has no effect that counts. Each commit checks the lease.
"""

import asyncio
import logging
import time
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from contracts.acme import ChallengeType, Issuance, KeyType
from contracts.errors import CertwireError, ErrorCode
from services.acme.answers import Answers, Asked
from services.acme.client import (
    Account,
    AcmeClient,
    AcmeProblem,
    Authorization,
    AuthorizationStatus,
    CaMisbehaves,
    CaUnavailable,
    Challenge,
    ChallengeStatus,
    Order,
    OrderStatus,
    Problem,
)
from services.acme.dns import DnsProviderError
from services.acme.domain.material import Material, accept_issued
from services.acme.domain.orders import (
    TRIES_BEFORE_BEGUN,
    OrderFailedError,
    challenge_failed,
    put_off_seconds,
    with_credentials,
)
from services.acme.keys import Key, csr_der, load_account_key, load_key, new_key, private_der
from services.acme.leases import LeaseLostError, holding
from services.acme.outcome import Outcome
from services.acme.service import Acme, UnknownDirectoryError
from services.acme.store import accounts, orders
from services.acme.store.orders import OrderRow
from services.acme.store.sealed import ACCOUNT_KEY, ORDER_CREDENTIALS, ORDER_KEY
from shared.clock import utc_now

LOG: Final = logging.getLogger(__name__)

ORDER_HOURS: Final = 2
"""An order that has not ended by then is given up: it would be begun anew."""
ANSWER_SECONDS: Final = 45.0
"""Whoever waits for an order gets 90; a try that nobody answers takes half of that, at most."""
POLL_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0)
"""How long the CA is given between two questions, where it does not say so itself."""
POLL_MOST_SECONDS: Final = 60.0
"""The most that it gets where it does: the order would be for nobody."""
GONE: Final = frozenset({"malformed", "notFound", "orderNotFound", "unauthorized"})
"""What CAs say of an order that they have forgotten; RFC 8555 has no type for it."""
PROOFS_MOST: Final = 5
"""So often are the names of one order proved, which is once, unless the CA is out of its mind."""
RATE_LIMITED: Final = "rateLimited"


class Ordering:
    """Goes on with orders. One for each replica."""

    def __init__(self, acme: Acme, answers: Answers) -> None:
        self._acme = acme
        self._answers = answers
        self._outcome = Outcome(acme)

    async def work(self, order: OrderRow, lease: UUID) -> None:
        """Go on with an order until it has ended, or has to wait for a CA that is away."""
        try:
            if order.result is None:
                await self._obtain(order, lease)
            await self._outcome.deliver(order, lease)  # 8
        except LeaseLostError:
            LOG.info("another replica goes on with an order", extra={"order": str(order.id)})
        except OrderFailedError as failure:
            await self._fail(order, lease, failure)
        except (UnknownDirectoryError, AcmeProblem, CaMisbehaves) as problem:
            await self._fail(order, lease, _failure_of(problem))
        except DnsProviderError as problem:
            await self._provider_failed(order, lease, problem)
        except CaUnavailable as problem:
            await self._unavailable(order, lease, problem)
        except CertwireError:
            raise  # the database is away: whoever has the lease next goes on
        except Exception:
            LOG.exception("an order cannot be gone on with", extra={"order": str(order.id)})
            await self._puzzled(order, lease)

    async def _obtain(self, order: OrderRow, lease: UUID) -> None:
        client = self._acme.client(order.directory)
        issuance = self._issuance(order)
        key, csr = await self._key(order, lease, issuance)  # 1
        account = await self._account(order, client)  # 2
        at_ca = await self._begun(order, lease, client, account)  # 3
        pause, proofs = _Pause(order.created_at), 0
        while at_ca.status is not OrderStatus.VALID:
            if at_ca.status is OrderStatus.INVALID:
                raise await self._invalid(client, account, at_ca, issuance.challenge_type)
            if at_ca.status is OrderStatus.PENDING:
                if await self._prove(order, lease, client, account, at_ca, issuance):  # 4
                    proofs += 1
                    if proofs > PROOFS_MOST:
                        raise CaMisbehaves("it wants the same names proved again and again")
                if proofs != 1:  # after the first proof it is ready, as a rule
                    await pause.take(at_ca.retry_after_seconds)
            elif at_ca.status is OrderStatus.READY:
                at_ca = await self._finalized(client, account, at_ca, csr)  # 5
                if at_ca.status is OrderStatus.VALID:
                    break
                await pause.take(at_ca.retry_after_seconds)
            else:
                await pause.take(at_ca.retry_after_seconds)
            at_ca = await client.order(account, at_ca.url)
        assert at_ca.certificate is not None  # noqa: S101 - the client has seen to it
        chain = await client.certificate(
            account, at_ca.certificate, self._acme.settings.acme_preferred_issuer
        )
        material = _accepted(chain, key, order)  # 6
        offers_ari = (await client.directory()).renewal_info is not None
        await self._outcome.record(order, lease, material, issuance, offers_ari=offers_ari)  # 7

    # --- Steps -----------------------------------------------------------------------------------

    async def _key(self, order: OrderRow, lease: UUID, issuance: Issuance) -> tuple[Key, bytes]:
        if order.sealed_key is not None and order.csr is not None:
            der = self._acme.sealer.open(order.sealed_key, ORDER_KEY.row(order.id))
            return load_key(der), order.csr
        size = issuance.key_size if issuance.key_type is KeyType.RSA else None
        key = await asyncio.to_thread(new_key, size)
        csr = csr_der(key, order.names)
        sealed = self._acme.sealer.seal(private_der(key), ORDER_KEY.row(order.id))
        async with holding(self._acme, order.id, lease) as connection:
            await orders.set_key(connection, order.id, sealed, csr)
        return key, csr

    async def _account(self, order: OrderRow, client: AcmeClient) -> Account:
        async with self._acme.runtime.database.connection() as connection:
            row = await accounts.get(connection, order.account_id)
        assert row is not None  # noqa: S101 - orders refer to it
        key = load_account_key(self._acme.sealer.open(row.sealed_key, ACCOUNT_KEY.row(row.id)))
        if row.url is not None:
            return Account(key, row.url)
        directory = await client.directory()
        if directory.external_account_required and self._acme.eab is None:
            LOG.error("set CERTWIRE_ACME_EAB_KID and CERTWIRE_ACME_EAB_HMAC_KEY")
            raise OrderFailedError(
                "The CA wants accounts to be bound to one that it knows, which is not set up here"
            )
        account = await client.register(key, row.email, self._acme.eab)
        async with self._acme.runtime.database.statement() as connection:
            await accounts.registered(connection, row.id, account.url)
        return account

    async def _begun(
        self, order: OrderRow, lease: UUID, client: AcmeClient, account: Account
    ) -> Order:
        """Return the order as the CA has it, which takes it in where it has not yet."""
        if order.url is not None:
            try:
                return await client.order(account, order.url)
            except AcmeProblem as problem:
                if problem.type not in GONE:
                    raise
                LOG.warning("the CA has forgotten an order", extra={"order": str(order.id)})
        at_ca = await self._new_order(order, lease, client, account)
        async with holding(self._acme, order.id, lease) as connection:
            await orders.set_url(connection, order.id, at_ca.url, at_ca.expires)
        return at_ca

    async def _new_order(
        self, order: OrderRow, lease: UUID, client: AcmeClient, account: Account
    ) -> Order:
        directory = await client.directory()
        profile = self._acme.settings.acme_profile
        if profile is not None and profile not in directory.profiles:
            offered = ", ".join(directory.profiles) or "none"
            raise OrderFailedError(f"The CA has no profile {profile}; it offers {offered}")
        replaces = order.replaces if directory.renewal_info is not None else None
        try:
            return await client.new_order(account, order.names, profile=profile, replaces=replaces)
        except AcmeProblem as problem:
            if problem.type == "accountDoesNotExist":
                async with self._acme.runtime.database.statement() as connection:
                    await accounts.registered(connection, order.account_id, None)
                raise CaUnavailable("the CA does not know our account any more") from problem
            if replaces is None:
                raise
        # RFC 9773 section 5: the CA has seen another replacement, or knows nothing of what is to be
        # replaced, and not every CA says so in the same words. If it is that, this order is good.
        async with holding(self._acme, order.id, lease) as connection:
            await orders.replace_nothing(connection, order.id)
        return await client.new_order(account, order.names, profile=profile)

    async def _prove(
        self,
        order: OrderRow,
        lease: UUID,
        client: AcmeClient,
        account: Account,
        at_ca: Order,
        issuance: Issuance,
    ) -> bool:
        """Have the CA see that the names are ours; return whether there was anything to see.

        Raises `OrderFailedError`.
        """
        open_ones: list[tuple[str, Challenge]] = []
        for url in at_ca.authorizations:
            authorization = await client.authorization(account, url)
            if authorization.status is not AuthorizationStatus.VALID:
                challenge = _challenge(authorization, issuance.challenge_type)
                open_ones.append((url, challenge))
                if challenge.status is ChallengeStatus.PENDING and challenge.token is None:
                    raise CaMisbehaves("a challenge has no token")
        asked = [
            Asked(order.domain.removeprefix("*."), challenge.token)
            for _, challenge in open_ones
            if challenge.token is not None
        ]
        if asked:
            await self._answers.put(order, lease, issuance, account, asked)
        for url, challenge in open_ones:
            if challenge.status is ChallengeStatus.PENDING:
                await self._answer(client, account, url, challenge, issuance.challenge_type)
        for url, _ in open_ones:
            await self._until_proved(order, client, account, url, issuance.challenge_type)
        return bool(open_ones)

    async def _answer(
        self,
        client: AcmeClient,
        account: Account,
        url: str,
        challenge: Challenge,
        kind: ChallengeType,
    ) -> None:
        """Tell the CA to look, unless it has done so since: an earlier reply was lost."""
        try:
            await client.answer(account, challenge.url)
        except AcmeProblem:
            authorization = await client.authorization(account, url)
            if (
                authorization.status is AuthorizationStatus.PENDING
                and _challenge(authorization, kind).status is ChallengeStatus.PENDING
            ):
                raise

    async def _until_proved(
        self,
        order: OrderRow,
        client: AcmeClient,
        account: Account,
        url: str,
        kind: ChallengeType,
    ) -> None:
        pause = _Pause(order.created_at)
        while True:
            authorization = await client.authorization(account, url)
            if authorization.status is AuthorizationStatus.VALID:
                return
            _challenge(authorization, kind)
            await pause.take(authorization.retry_after_seconds)

    async def _finalized(
        self, client: AcmeClient, account: Account, at_ca: Order, csr: bytes
    ) -> Order:
        try:
            done = await client.finalize(account, at_ca.finalize, csr)
        except AcmeProblem as problem:
            if problem.type != "orderNotReady":  # the reply to an earlier one was lost
                raise
            return await client.order(account, at_ca.url)
        return done if done.url else await client.order(account, at_ca.url)

    async def _invalid(
        self, client: AcmeClient, account: Account, at_ca: Order, kind: ChallengeType
    ) -> OrderFailedError:
        """Return why an order is invalid: by its authorisations, else by its own problem."""
        for url in at_ca.authorizations:
            authorization = await client.authorization(account, url)
            try:
                if authorization.status is not AuthorizationStatus.VALID:
                    _challenge(authorization, kind)
            except OrderFailedError as failure:
                return failure
        said = _said(at_ca.error) if at_ca.error else "the CA does not say why"
        return OrderFailedError(f"The CA refused: {said}")

    # --- Ends ------------------------------------------------------------------------------------

    async def _provider_failed(
        self, order: OrderRow, lease: UUID, problem: DnsProviderError
    ) -> None:
        text = f"DNS provider error: {problem.reason}"
        wait = put_off_seconds(order.attempts, problem.retry_after_seconds)
        if (
            problem.transient
            and order.attempts < TRIES_BEFORE_BEGUN
            and not _is_too_old(order, wait)
            and not _is_kept_waiting(order, wait)
        ):
            await self._put_off(order, lease, wait, text)
            return
        await self._fail(order, lease, OrderFailedError(text))

    async def _unavailable(self, order: OrderRow, lease: UUID, problem: CaUnavailable) -> None:
        """Put off an order that the CA has; end one that it never took in, after some tries."""
        limited = bool(problem.retry_after_seconds) or RATE_LIMITED in problem.reason
        if limited:
            await self._outcome.pause(order, problem)
        async with self._acme.runtime.database.connection() as connection:
            now = await orders.get(connection, order.id)
        begun = now is not None and now.url is not None
        wait = put_off_seconds(order.attempts, problem.retry_after_seconds)
        if _is_too_old(order, wait) or (
            not begun
            and (
                limited or order.attempts + 1 >= TRIES_BEFORE_BEGUN or _is_kept_waiting(order, wait)
            )
        ):
            failure = OrderFailedError(
                f"The CA is unavailable: {problem.reason}",
                code=ErrorCode.CA_UNAVAILABLE,
                retry_after_seconds=problem.retry_after_seconds or 60,
            )
            held_back = problem.retry_after_seconds if limited else None
            await self._fail(order, lease, failure, held_back)
            return
        await self._put_off(order, lease, wait, problem.reason)

    async def _puzzled(self, order: OrderRow, lease: UUID) -> None:
        """Try again what nobody foresaw, a key that does not open say, but not for ever."""
        if _is_too_old(order):
            await self._fail(order, lease, OrderFailedError("Internal error"))
            return
        await self._put_off(order, lease, put_off_seconds(order.attempts, None), "see above")

    async def _put_off(self, order: OrderRow, lease: UUID, seconds: float, reason: str) -> None:
        seen = {"order": str(order.id), "seconds": seconds, "problem": reason}
        LOG.warning("an order is put off", extra=seen)
        try:
            async with holding(self._acme, order.id, lease) as connection:
                await orders.postpone(connection, order.id, seconds)
        except LeaseLostError:
            LOG.info("another replica goes on with an order", extra={"order": str(order.id)})

    async def _fail(
        self,
        order: OrderRow,
        lease: UUID,
        failure: OrderFailedError,
        held_back_seconds: int | None = None,
    ) -> None:
        try:
            await self._outcome.fail(order, lease, failure, held_back_seconds)
        except LeaseLostError:
            LOG.info("another replica goes on with an order", extra={"order": str(order.id)})

    def _issuance(self, order: OrderRow) -> Issuance:
        sealed = order.sealed_credentials
        row = ORDER_CREDENTIALS.row(order.id)
        return with_credentials(
            order.issuance, self._acme.sealer.open(sealed, row) if sealed is not None else None
        )


class _Pause:
    """Waits between questions to the CA: for longer each time, and not for ever."""

    def __init__(self, begun: datetime) -> None:
        left = timedelta(hours=ORDER_HOURS) - (utc_now() - begun)
        self._until = time.monotonic() + left.total_seconds()
        self._taken = 0

    async def take(self, retry_after_seconds: int | None) -> None:
        """Wait as long as the CA says, else as we see fit. Raises `OrderFailedError` at the end."""
        if time.monotonic() > self._until:
            raise OrderFailedError(f"The CA did not come to an end within {ORDER_HOURS} h")
        own = POLL_SECONDS[min(self._taken, len(POLL_SECONDS) - 1)]
        self._taken += 1
        wait = own if retry_after_seconds is None else float(retry_after_seconds)
        await asyncio.sleep(min(max(wait, own), POLL_MOST_SECONDS))


def _failure_of(problem: UnknownDirectoryError | AcmeProblem | CaMisbehaves) -> OrderFailedError:
    if isinstance(problem, UnknownDirectoryError):
        return OrderFailedError("The CA of this order is not in the settings any more")
    if isinstance(problem, CaMisbehaves):
        return OrderFailedError(f"The CA cannot be understood: {problem.reason}")
    return OrderFailedError(f"The CA refused: {_said(problem.problem)}")


def _is_too_old(order: OrderRow, wait_seconds: float = 0) -> bool:
    """Return whether an order has had its time, or will have before the wait is over."""
    age = utc_now() - order.created_at
    return age + timedelta(seconds=wait_seconds) > timedelta(hours=ORDER_HOURS)


def _is_kept_waiting(order: OrderRow, wait_seconds: float) -> bool:
    """Return whether somebody waits for the order, and would not hear of another try's end."""
    age = (utc_now() - order.created_at).total_seconds()
    return order.waits and age + wait_seconds > ANSWER_SECONDS


def _challenge(authorization: Authorization, kind: ChallengeType) -> Challenge:
    """Return the challenge of a kind that can still be met. Raises `OrderFailedError`."""
    found = next((each for each in authorization.challenges if each.type == kind), None)
    if found is None:
        raise OrderFailedError(f"The CA does not offer {kind} for {authorization.identifier}")
    failed = next((each for each in authorization.challenges if each.error is not None), found)
    if authorization.status is not AuthorizationStatus.PENDING or (
        found.status is ChallengeStatus.INVALID
    ):
        said = _said(failed.error) if failed.error else f"the CA calls it {authorization.status}"
        raise challenge_failed(kind, said)
    return found


def _accepted(chain: str, key: Key, order: OrderRow) -> Material:
    try:
        return accept_issued(chain, key, order.names, utc_now())
    except (ValueError, CertwireError) as problem:
        raise CaMisbehaves(f"its certificate is not what was ordered: {problem}") from problem


def _said(problem: Problem) -> str:
    """Return a problem in the CA's own words, those about single names included."""
    about = [f"{name}: {each.detail or each.type}" for name, each in problem.subproblems.items()]
    return "; ".join([problem.detail or problem.type, *about])
