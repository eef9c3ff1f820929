"""What pkilint says of certificates."""

from functools import cache

from pkilint import loader  # type: ignore[import-untyped]  # pkilint has no annotations
from pkilint.pkix import certificate as pkix  # type: ignore[import-untyped]  # as above
from pkilint.pkix import extension, name
from pkilint.validation import (  # type: ignore[import-untyped]  # as above
    ValidationFindingSeverity,
    ValidatorContainer,
)

from services.issuer.authority import Certificate
from services.issuer.domain.encoding import pem


@cache
def linter() -> ValidatorContainer:
    """Return the validations of `lint_pkix_cert`."""
    return pkix.create_pkix_certificate_validator_container(
        pkix.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            pkix.create_issuer_validator_container([]),
            pkix.create_validity_validator_container(),
            pkix.create_subject_validator_container([]),
            pkix.create_extensions_validator_container([]),
            pkix.create_spki_validator_container([]),
        ],
    )


def findings(certificate: Certificate) -> list[str]:
    """Return what pkilint finds worth a warning or more.

    Its URI syntax is a list of schemes without `spiffe`, which SPIFFE-ID section 2 prescribes.
    """
    document = loader.RFC5280CertificateDocumentLoader().load_pem_document(
        pem(certificate.der), "certificate"
    )
    found = [
        f"{description.finding.code} {description.message}"
        for result in linter().validate(document.root)
        for description in result.finding_descriptions
        if description.finding.severity <= ValidationFindingSeverity.WARNING
    ]
    return [
        text
        for text in found
        if 'pkix.invalid_uri_syntax Invalid URI syntax: "spiffe://' not in text
    ]
