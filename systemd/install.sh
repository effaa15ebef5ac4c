#!/usr/bin/env bash
# Installs easeld as systemd services, upgrades it in place, goes back, and uninstalls it. May be run again at any time.
set -euo pipefail
umask 022

usage() {
    cat <<'END'
Usage: systemd/install.sh [--shim | --shim-only] [--wheel FILE] [--now]
       systemd/install.sh --rollback
       systemd/install.sh --uninstall [--purge]

  (nothing)     install or upgrade: a worker on every GPU
  --shim        and the RunPod-compatible endpoint
  --shim-only   the endpoint alone, without torch
  --wheel FILE  install this wheel; otherwise one is built from the checkout that this script lies in
  --now         start everything after the first installation, too
  --rollback    go back to the release before
  --uninstall   stop everything and remove it; settings, jobs, media and models stay
  --purge       ... and remove those, too

An upgrade restarts what runs, one after the other: each worker drains first, and is ready again before the next.
PYTHON names the interpreter (3.11 or later), PIP_OPTIONS is passed to pip.
END
}

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PREFIX=/opt/easeld
SETTINGS=/etc/easeld
UNITS=/usr/local/lib/systemd/system  # /etc/systemd/system stays for whoever runs the machine
COMMAND=/usr/local/sbin/easeld
UNIT_FILES=(easeld.target easeld-gpus.service easeld@.service easeld-shim.service)
PYTHON=${PYTHON:-python3}

parts='' wheel='' action=install purge=no now=no

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

parse() {
    while (($#)); do
        case $1 in
            --shim) parts=worker+shim ;;
            --shim-only) parts=shim ;;
            --wheel) wheel=${2:?--wheel needs a file} && shift ;;
            --now) now=yes ;;
            --rollback) action=rollback ;;
            --uninstall) action=uninstall ;;
            --purge) purge=yes ;;
            -h | --help) usage && exit 0 ;;
            *) usage >&2 && exit 2 ;;
        esac
        shift
    done
}

check_machine() {
    [[ $(id -u) == 0 ]] || fail "run it as root"
    [[ -d /run/systemd/system ]] || fail "this machine does not run systemd"
    if [[ $action == install ]]; then
        "$PYTHON" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
            fail "$PYTHON is not Python 3.11 or later with venv: apt-get install python3-venv, or set PYTHON"
    fi
}

# --- what is installed: one environment of dependencies, shared by the releases that need the same -----------------

build_wheel() {
    local builder
    builder=$(mktemp -d)
    "$PYTHON" -m venv "$builder/venv"
    # shellcheck disable=SC2086  # options are separate words
    "$builder/venv/bin/pip" wheel --quiet ${PIP_OPTIONS:-} --no-deps --wheel-dir "$builder" "$HERE/.."
    mv "$builder"/easeld-*.whl "$1"
    rm -rf "$builder"
}

# The wheel's version, a digest of what is in it, and one of what it needs here. (A wheel built twice differs in its times.)
identify() {
    "$PYTHON" - "$1" "$2" "$HERE/../constraints.txt" <<'END'
import hashlib, sys, zipfile
from email import message_from_bytes
from pathlib import Path

def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:10]

with zipfile.ZipFile(sys.argv[1]) as wheel:
    info = next(name.split("/")[0] for name in wheel.namelist() if name.split("/")[0].endswith(".dist-info"))
    metadata = message_from_bytes(wheel.read(f"{info}/METADATA"))
    record = wheel.read(f"{info}/RECORD")
requires = "\n".join(metadata.get_all("Requires-Dist") or []).encode()
python = f"{sys.version_info.major}.{sys.version_info.minor}".encode()
print(metadata["Version"], digest(record), digest(requires, Path(sys.argv[3]).read_bytes(), sys.argv[2].encode(), python))
END
}

install_dependencies() {  # WHEEL EXTRA FOLDER
    [[ -e $3/complete ]] && return
    echo "Installing what easeld needs into $3"
    rm -rf "$3"
    "$PYTHON" -m venv "$3"
    # shellcheck disable=SC2086  # options are separate words
    "$3/bin/pip" install --quiet --disable-pip-version-check ${PIP_OPTIONS:-} --constraint "$HERE/../constraints.txt" "$1$2"
    "$3/bin/pip" uninstall --quiet --yes easeld
    touch "$3/complete"
}

install_release() {  # WHEEL DEPENDENCIES FOLDER
    [[ -e $3/complete ]] && return
    rm -rf "$3"
    "$PYTHON" -m venv --without-pip "$3"
    local site
    site=$("$3/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$2/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/dependencies.pth"
    "$2/bin/python" -m pip --disable-pip-version-check --python "$3/bin/python" install --quiet --no-deps --no-index "$1"
    ln -s "$2" "$3/dependencies"
    "$3/bin/easeld" --version >/dev/null
    touch "$3/complete"
}

point_to() {  # LINK TARGET: at once, or not at all
    ln -sfn "$2" "$1.new"
    mv -T "$1.new" "$1"
}

remove_old() {  # all but the current release and the one before
    local folder kept
    kept=$(readlink -f "$PREFIX/current" "$PREFIX/previous" 2>/dev/null || true)
    kept+=$'\n'$(readlink -f "$PREFIX/current/dependencies" "$PREFIX/previous/dependencies" 2>/dev/null || true)
    for folder in "$PREFIX"/releases/* "$PREFIX"/dependencies/*; do
        grep -qxF "$folder" <<<"$kept" || rm -rf "$folder"
    done
}

# --- what systemd sees ---------------------------------------------------------------------------------------------

put() {  # MODE SOURCE TARGET: prints the target if it changed
    cmp -s "$2" "$3" && return
    install -D -m "$1" "$2" "$3"
    echo "$3"
}

install_units() {
    local unit
    for unit in "${UNIT_FILES[@]}"; do put 644 "$HERE/$unit" "$UNITS/$unit"; done
    put 755 "$HERE/start-instances" "$PREFIX/start-instances"
    put 755 "$HERE/easeld-wrapper" "$COMMAND"
}

install_settings() {
    install -d -m 755 "$SETTINGS"
    [[ -e $SETTINGS/easeld.env ]] || install -m 600 "$HERE/easeld.env" "$SETTINGS/easeld.env"
    install -m 644 "$HERE/easeld.env" "$SETTINGS/easeld.env.example"  # what this release knows
}

running() { systemctl list-units --plain --no-legend --state=active "$1" | awk '{print $1}'; }

roll() {
    local unit
    for unit in $(running 'easeld-shim.service') $(running 'easeld@*.service'); do
        echo "Restarting $unit"
        systemctl restart "$unit" || fail "$unit does not come up (journalctl -u $unit). The workers that were not \
restarted yet go on with the release before. To go back: systemd/install.sh --rollback"
    done
}

# --- what a person asks for ----------------------------------------------------------------------------------------

do_install() {
    local extra='' built='' first=yes changed version content needs release dependencies
    [[ -e $PREFIX/current ]] && first=no
    if [[ -z $parts && -r $PREFIX/parts ]]; then parts=$(<"$PREFIX/parts"); fi
    parts=${parts:-worker}
    [[ $parts == *worker* ]] && extra='[worker]'
    if [[ -z $wheel ]]; then
        built=$(mktemp -d)
        build_wheel "$built"
        wheel=$(echo "$built"/easeld-*.whl)
    fi
    wheel=$(readlink -f "$wheel")
    read -r version content needs < <(identify "$wheel" "$extra")
    dependencies=$PREFIX/dependencies/$needs
    release=$PREFIX/releases/$version-$content-$needs

    systemd-sysusers "$HERE/easeld.sysusers"
    install -d "$PREFIX/releases" "$PREFIX/dependencies"
    install_dependencies "$wheel" "$extra" "$dependencies"
    install_release "$wheel" "$dependencies" "$release"
    [[ -z $built ]] || rm -rf "$built"
    install_settings
    changed=$(install_units)
    systemctl daemon-reload
    echo "$parts" >"$PREFIX/parts"

    if [[ $(readlink -f "$PREFIX/current") != "$release" ]]; then
        [[ $first == yes ]] || point_to "$PREFIX/previous" "$(readlink -f "$PREFIX/current")"
        point_to "$PREFIX/current" "$release"
        changed+=" $release"
    fi
    systemctl --quiet enable easeld.target
    if [[ $parts == *shim* ]]; then systemctl --quiet enable easeld-shim.service; fi
    if [[ $parts == shim ]]; then systemctl --quiet mask easeld-gpus.service; else systemctl --quiet unmask easeld-gpus.service; fi
    if [[ -z ${changed// /} ]]; then
        echo "easeld $version is installed already; nothing was restarted."
    else
        roll
        remove_old
        echo "easeld $version is installed."
    fi
    if [[ $now == yes ]]; then
        systemctl start easeld.target
    elif [[ $first == yes ]]; then
        echo "Next: edit $SETTINGS/easeld.env, then: systemctl start easeld.target"
    fi
}

do_rollback() {
    local before
    before=$(readlink -f "$PREFIX/previous" 2>/dev/null || true)
    [[ -n $before && -e $before/complete ]] || fail "there is no release before"
    point_to "$PREFIX/previous" "$(readlink -f "$PREFIX/current")"
    point_to "$PREFIX/current" "$before"
    systemctl reset-failed 'easeld*' 2>/dev/null || true
    roll
    systemctl start easeld.target
    echo "easeld is back at ${before##*/}."
}

do_uninstall() {
    local unit
    systemctl disable --quiet --now easeld.target easeld-shim.service 2>/dev/null || true
    systemctl stop easeld-gpus.service 'easeld@*.service' easeld-shim.service 2>/dev/null || true
    systemctl --quiet unmask easeld-gpus.service 2>/dev/null || true
    for unit in "${UNIT_FILES[@]}"; do rm -f "$UNITS/$unit"; done
    systemctl daemon-reload
    systemctl reset-failed 'easeld*' 2>/dev/null || true
    rm -rf "$PREFIX" "$COMMAND"
    if [[ $purge == yes ]]; then
        rm -rf "$SETTINGS" /var/lib/easeld /var/cache/easeld
        if getent passwd easeld >/dev/null; then userdel easeld; fi
        echo "easeld and everything of it are removed."
    else
        echo "easeld is removed; $SETTINGS, /var/lib/easeld and /var/cache/easeld are still there (--purge removes them)."
    fi
}

parse "$@"
check_machine
"do_$action"
