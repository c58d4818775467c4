#!/usr/bin/env bash
# What the browser test needs, where it is missing: Chromium and Node.js from Debian, npm packages into FOLDER.
#     install.sh FOLDER
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if ((${#missing[@]})); then
    echo "Installing ${missing[*]} by apt-get"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
mkdir -p "$1"
cp "$here/package.json" "$here/package-lock.json" "$1"
npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund --loglevel=error
touch "$1/installed"
