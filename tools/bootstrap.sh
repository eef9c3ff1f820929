#!/bin/sh
# Finds a Python that can make the environment, then lets tools/environment.py make it.
# Usage: tools/bootstrap.sh runtime|dev
set -eu
cd "$(dirname "$0")/.."

found=""
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    # Run it rather than look for it: version managers leave names that start nothing.
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        found=$candidate
        break
    fi
done

if [ -z "$found" ]; then
    echo "Certwire needs Python 3.11 or newer, and none was found (tried: ${PYTHON:-python3, python3.11 to python3.14})." >&2
    echo "Debian, Ubuntu: apt-get install python3 python3-venv (or python3.12 python3.12-venv where python3 is older)" >&2
    echo "macOS:          brew install python" >&2
    echo "Another place:  make PYTHON=/path/to/python3 ..." >&2
    exit 1
fi

if ! "$found" -c 'import venv, ensurepip' 2>/dev/null; then
    echo "$found has no venv module with pip. On Debian and Ubuntu it is a package of its own:" >&2
    echo "    apt-get install ${found##*/}-venv" >&2
    exit 1
fi

exec "$found" tools/environment.py "$@"
