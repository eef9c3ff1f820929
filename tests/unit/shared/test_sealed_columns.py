"""Where sealed values stand."""

from contracts.subjects import Service
from shared.sealed_columns import SealedColumn


def test_a_value_is_bound_to_its_place() -> None:
    column = SealedColumn(Service.ISSUER, "ca", "sealed_key", "id")
    assert column.row(3) == "issuer.ca.sealed_key:3"
