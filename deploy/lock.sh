#!/bin/sh
# Compile pyproject.toml into requirements/*.txt: one version per package, with the hashes of its
# files for every system, and no address of an index.
set -eu

uv=var/lock/bin/uv
[ -x "$uv" ] || { python3 -m venv var/lock && var/lock/bin/pip install --quiet uv; }

compile() {
    "$uv" pip compile pyproject.toml --quiet --universal --fork-strategy fewest \
        --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url "$@"
}
compile --group build --output-file requirements/base.txt
compile --group build --group dev --constraint requirements/base.txt \
    --output-file requirements/dev.txt
