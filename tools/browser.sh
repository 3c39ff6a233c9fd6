#!/usr/bin/env bash
# What tests of pages need: Chromium, and what drives it, by npm into tools/browser.
# Chromium is installed where that is possible without asking: on Debian, by root (a
# container, CI). Without them tests skip and say so.
set -euo pipefail
cd "$(dirname "$0")/browser"

chromium() { type -P chromium || type -P chromium-browser || type -P google-chrome; }

if ! chromium >/dev/null && [[ $(id -u) == 0 && -r /etc/debian_version ]] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q || echo "Debian: apt-get update failed" >&2
  echo "Debian: installing chromium"
  # What is missing after that is told below.
  apt-get install -q -y --no-install-recommends chromium || echo "Debian: chromium could not be installed" >&2
fi
# Exactly what the lock says, again when it has changed.
lock=$(cksum <package-lock.json)
if [[ $(cat node_modules/.lock 2>/dev/null) != "$lock" ]] && command -v npm >/dev/null; then
  echo "browser: installing playwright-core and axe-core with npm into tools/browser"
  if npm ci --silent --ignore-scripts --no-audit --no-fund --fetch-retries=3 --fetch-timeout=60000; then
    echo "$lock" >node_modules/.lock
  else
    echo "browser: npm could not install them" >&2
  fi
fi

if found=$(chromium) && [[ -e node_modules/.lock ]] && command -v node >/dev/null; then
  echo "browser: $found, driven by tools/browser"
else
  echo "browser: none, so tests of pages are skipped; install Chromium and Node.js with npm (Debian: apt-get install chromium nodejs npm) and run this again"
fi
