#!/usr/bin/env bash
# Make or renew the virtual environment $1 from the lock files; does nothing when they have not changed.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=$1
python=${PYTHON:-python3}
key=$(cat requirements-build.lock requirements-dev.lock tests/cluster/venv.sh | sha256sum | cut -c1-16)

[[ -f $venv/.key && $(<"$venv/.key") == "$key" && -x $venv/bin/python ]] && exit 0

# Two targets at once (make -j, or a person and a test) must not write the same folder.
exec 9>"/tmp/keepip-venv-$(id -u)-$(pwd | sha256sum | cut -c1-12).lock"
flock 9
[[ -f $venv/.key && $(<"$venv/.key") == "$key" && -x $venv/bin/python ]] && exit 0

say() { printf '== venv: %s\n' "$*"; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    say "$python is older than 3.11: set PYTHON=python3.11 or newer" >&2
    exit 1
}
say "making $venv with $("$python" --version)"
rm -rf "$venv"
if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
    rm -rf "$venv"
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        say "this Python has no venv: apt-get install python3-venv"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv
        "$python" -m venv "$venv"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        say "this Python has no venv: taking virtualenv from the package index"
        side=$(mktemp -d)
        trap 'rm -rf "$side"' EXIT
        "$python" -m pip install -q --target "$side" virtualenv
        PYTHONPATH=$side "$python" -m virtualenv -q "$venv"
    else
        say "this Python can make no virtual environment; run: apt-get install python3-venv" >&2
        exit 1
    fi
fi

# The lock files are whole (hashes, no look-ups), and `ovs` is built from source with the pinned setuptools.
pip=("$venv/bin/python" -m pip --disable-pip-version-check install --no-deps --no-build-isolation)
say "what builds packages"
"${pip[@]}" -q --require-hashes -r requirements-build.lock
say "the packages of requirements-dev.lock"
"${pip[@]}" --require-hashes -r requirements-dev.lock | grep --line-buffered -E '^(Collecting|Building|Successfully)' || true
"$venv/bin/python" -c 'import kubernetes_asyncio, ovs, pytest, structlog' || { say "the installation is not whole" >&2; exit 1; }
# `keepip` on the path of this environment, served from this checkout.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
pwd >"$site/keepip-checkout.pth"
printf '#!/bin/sh\nexec "%s/bin/python" -m controller "$@"\n' "$(cd "$venv" && pwd)" >"$venv/bin/keepip"
chmod +x "$venv/bin/keepip"
echo "$key" >"$venv/.key"
say "ready"
