#!/bin/sh
# Install the named Debian packages that are missing, without letting them start services.
# Does nothing on other systems; needs root, or sudo without a password.
set -eu

command -v apt-get >/dev/null || exit 0
missing=
for package; do
    dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null |
        grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || {
        echo "Missing Debian packages; please run: sudo apt-get install$missing" >&2
        exit 1
    }
    exec sudo -n sh "$0" "$@"
fi

echo "Installing Debian packages:$missing"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then # Debian asks this program whether a service may start: no
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
# shellcheck disable=SC2086  # a list of words
if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    exit 1
fi
rm -f "$log"
