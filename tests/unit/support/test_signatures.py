"""What checks AWS's signatures agrees with AWS."""

from tests.support.dns_providers.signatures import Signed

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SCOPE = "20150830/us-east-1/service/aws4_request"
MOMENT = {"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z"}


def test_the_signature_of_awss_own_example() -> None:
    """`get-vanilla` of the Signature Version 4 test suite."""
    signed = Signed("GET", "/", "", MOMENT, b"")
    expected = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    assert signed.signature(SECRET, SCOPE, "host;x-amz-date") == expected


def test_the_order_of_a_query_does_not_matter() -> None:
    """`get-vanilla-query-order-key-case` of the same."""
    expected = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
    for query in ("Param2=value2&Param1=value1", "Param1=value1&Param2=value2"):
        signed = Signed("GET", "/", query, MOMENT, b"")
        assert signed.signature(SECRET, SCOPE, "host;x-amz-date") == expected


def test_a_signature_of_long_ago_is_too_old() -> None:
    authorization = (
        f"AWS4-HMAC-SHA256 Credential=AKID/{SCOPE}, SignedHeaders=host;x-amz-date, "
        f"Signature={'0' * 64}"
    )
    signed = Signed("GET", "/", "", {**MOMENT, "authorization": authorization}, b"")
    assert signed.problem("AKID", SECRET, "us-east-1", "service") == "RequestExpired"
    assert signed.problem("AKIX", SECRET, "us-east-1", "service") == "InvalidClientTokenId"
