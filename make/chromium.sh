#!/bin/sh
# Installs Debian's Chromium where there is no browser for the tests of the operator page.
set -eu

for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
if [ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ]; then exit 0; fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "There is no Chromium here. Install Chromium or Chrome with your system's package manager." >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then sudo=""; else sudo=sudo; fi
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends chromium
