"""What is measured."""

from enum import StrEnum


class Work(StrEnum):
    """`renew`: each instance renews once, over a connection of its own, with its certificate.

    `sign-csr`: a user has CSRs signed, one after the other over connections that are kept, with a
    token.
    """

    RENEW = "renew"
    SIGN_CSR = "sign-csr"
