#!/bin/sh
# Checks what an installation needs and prints the one command that mends what is missing.
# Usage: make/preflight.sh PYTHON   (PYTHON may be empty: none that is new enough was found)
set -eu
python=${1:-}

if [ "$(id -u)" = 0 ]; then sudo=""; else sudo="sudo "; fi

install_command() {  # the platform's command for a Debian package, a Homebrew formula or a Fedora package
    if [ "$(uname -s)" = Darwin ]; then echo "brew install $2"
    elif command -v apt-get >/dev/null 2>&1; then echo "${sudo}apt-get update && ${sudo}apt-get install -y $1"
    elif command -v dnf >/dev/null 2>&1; then echo "${sudo}dnf install -y $3"
    else echo "install $2 with your system's package manager"; fi
}

stop() {
    printf '%s\nTo mend it:  %s\n' "$1" "$2" >&2
    exit 1
}

case "$(uname -s)-$(uname -m)" in
    Linux-x86_64 | Linux-aarch64 | Darwin-arm64) ;;
    Darwin-x86_64) stop "PyTorch is no longer published for Intel Macs, nor for a shell under Rosetta." "arch -arm64 make" ;;
    *) stop "easeld runs on Linux (x86_64, aarch64) and on macOS with Apple silicon, not on $(uname -s) $(uname -m)." \
        "wsl --install   (on Windows; then run make inside it)" ;;
esac

if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    stop "easeld needs Python 3.11 or newer${python:+, and $python is older or missing}." \
        "$(install_command "python3.11 python3.11-venv" python@3.11 python3.11)"
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    stop "$python has no venv module." "$(install_command "python$version-venv" "python@$version" "python$version")"
fi
