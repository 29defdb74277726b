#!/bin/sh
# Make .venv and install the locked packages of requirements/$1.txt (base or dev) and the SDK.
set -eu

complete='import ensurepip, sqlite3, ssl, sys, venv; sys.exit(sys.version_info < (3, 11))'

find_python() {
    for name in python3 python3.13 python3.12 python3.11; do
        if "$name" -c "$complete" >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
}

log=.venv/install.log

pip_install() { # a dot per package; everything pip said when it fails
    {
        .venv/bin/python -m pip install --disable-pip-version-check --no-input "$@" 2>&1 ||
            echo "FAILED"
    } | while read -r line; do
        printf '%s\n' "$line" >>"$log"
        case $line in Collecting*) printf . ;; esac
    done
    if grep -qx FAILED "$log"; then
        echo
        cat "$log" >&2
        exit 1
    fi
}

if ! .venv/bin/python -c "$complete" >/dev/null 2>&1; then
    python=$(find_python)
    if [ -z "$python" ]; then
        # Debian keeps the part of Python that makes virtual environments in a package of its own.
        sh deploy/debian-packages.sh python3 python3-venv || true
        python=$(find_python)
    fi
    if [ -z "$python" ]; then
        echo "Holdfast needs Python 3.11 or newer with venv (Debian: python3-venv)." >&2
        exit 1
    fi
    echo "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

rm -f "$log"
printf 'Installing requirements/%s.txt, about a minute the first time ' "$1"
# Without compiling: of what is installed a tenth is ever imported, and Python compiles that by itself.
pip_install --no-compile --require-hashes --requirement "requirements/$1.txt"
pip_install --quiet --no-deps --no-build-isolation --editable sdk
echo
