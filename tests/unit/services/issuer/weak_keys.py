"""Keys that only a flawed generator makes: their CSRs are otherwise in order."""

from cryptography.hazmat.primitives.asymmetric import rsa

EXPONENT = 65537


def rsa_key(p: int, q: int) -> rsa.RSAPrivateKey:
    """Return the key of two primes."""
    d = pow(EXPONENT, -1, (p - 1) * (q - 1))
    return rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=rsa.rsa_crt_dmp1(d, p),
        dmq1=rsa.rsa_crt_dmq1(d, q),
        iqmp=rsa.rsa_crt_iqmp(p, q),
        public_numbers=rsa.RSAPublicNumbers(EXPONENT, p * q),
    ).private_key()


# Primes of the form k * M + (65537 ** a mod M), M the product of the primes from 2 to 167
# (CVE-2017-15361).
ROCA = rsa_key(
    int(
        (
            "e3ddcb5eb00210fff64c57afbcba7fb84f217b94edeec124bce3dc1cb7417b859ddff4bed2d16e3c8c1a42f6"
            "a477b829d3be790bef5f61717077beafb816497bf8d6de10f94da6efbd5e63d607260ec2ef1aae57d06cce67"
            "9eace2b915e3b916386b62d50d16cf2a60bd210dfbfcf0ddbf9e311b93c9be0c38ad3544b63313ad"
        ),
        16,
    ),
    int(
        (
            "eb1f7dff8e8aeae19195eb093adf1a27ba35b64d5e8f2e53ac4699da80fe2fb25573cfa9716c1a62fc787ad8"
            "d6f0ce55b7660f16e4b66a0e13ddb1311f5159413989b909299933a2c6d678974a640febcc5c9231d28d2146"
            "fb1940474e46ad42dc465791e9d16525dc1e03afe1082249b4e895172fbf3e3f19e89335d38f6ff1"
        ),
        16,
    ),
)

# Two neighbouring primes: Fermat's method factors the modulus at once.
_PRIME = int(
    (
        "c211c1d7188160018f63b7d060c1eeeff0d24e842fdbd84644bc9dd83aa659e612e883dd8e8702d23444b355"
        "b1bf7f198c0f81d48b79a91bee4b2dbef31fd6578c5c858a3c9ab79dd230c491e93ea26b3cd5950d601ddb94"
        "9e13b131b1e5f4880a38d1fd28187c8c2d9a51fd8bf30d99f68cf07b5809ef97e790213d671c1cb3"
    ),
    16,
)
CLOSE_PRIMES = rsa_key(_PRIME, _PRIME + 1380)
