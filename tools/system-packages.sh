#!/bin/sh
# Makes sure of the programs that the tests run beside Python's packages: their oracles.
# Installs what is missing where that is possible (root on Debian or Ubuntu), else names it.
# With CI=true a missing program is a failure.
set -eu

missing=""
while read -r program package; do
    command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] ||
        missing="$missing $package"
done <<'END'
openssl openssl
curl curl
jq jq
pk12util libnss3-tools
certtool gnutls-bin
nginx nginx-light
softhsm2-util softhsm2
chromium chromium
pebble pebble
END
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing$missing ..." >&2
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # a list
    apt-get update -qq >&2 && apt-get install -qq --no-install-recommends $missing >&2 && exit 0
fi

echo "The tests need$missing; on Debian and Ubuntu: apt-get install$missing" >&2
[ "${CI:-}" != true ]
