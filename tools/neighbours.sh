#!/usr/bin/env bash
# The older neighbours that tests run beside the newest ones: Debian's Prometheus
# and VictoriaMetrics. They are unpacked into the folder of built tools and not
# installed: no service, no user, nothing of the machine changes. Without them
# tests skip and say so.
set -euo pipefail

dir=${WEIR_TOOLS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}/debian
packages=(prometheus victoria-metrics)
lacking() {
  local package
  for package in "${packages[@]}"; do
    [[ -x $dir/$package/usr/bin/$package ]] || echo "$package"
  done
}

if [[ -n $(lacking) ]] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
  mkdir -p "$dir"
  work=$(mktemp -d "$dir/.unpack.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  cd "$work"
  if [[ $(id -u) == 0 ]]; then
    apt-get update -q || echo "Debian: apt-get update failed" >&2
  fi
  for package in $(lacking); do
    echo "Debian: unpacking $package"
    # Moved when it is whole. What is missing after that is told below.
    if apt-get download -q -o APT::Sandbox::User=root "$package" && dpkg-deb -x "$package"_*.deb "$package"; then
      rm -rf "${dir:?}/$package" && mv "$package" "$dir/$package"
    else
      echo "Debian: $package could not be had" >&2
    fi
  done
fi

for package in "${packages[@]}"; do
  if [[ -x $dir/$package/usr/bin/$package ]]; then
    echo "Debian's $package: $dir/$package"
  else
    echo "Debian's $package: none, so tests with it are skipped; on Debian, run this again as root"
  fi
done
