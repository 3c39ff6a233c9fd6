#!/usr/bin/env bash
# Sees to it that the tests find a Postgres: one named by TEST_DATABASE_URL, one
# that is installed, or, for root on Debian (a container, CI), one installed now.
set -euo pipefail

if [[ -n ${TEST_DATABASE_URL:-} ]]; then
  echo "Postgres: the server of TEST_DATABASE_URL"
  exit 0
fi
shopt -s nullglob
# The places where internal/pgtest looks.
for dir in ${PATH//:/ } /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql@*/bin \
  /usr/local/opt/postgresql@*/bin /Applications/Postgres.app/Contents/Versions/*/bin; do
  if [[ -x $dir/initdb && -x $dir/postgres ]]; then
    echo "Postgres: $("$dir/postgres" --version), started by the tests"
    exit 0
  fi
done
if [[ $(id -u) == 0 && -r /etc/debian_version ]] && command -v apt-get >/dev/null; then
  echo "Postgres: none found, installing Debian's"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q
  # The package would set up and start a server of the machine's own.
  mkdir -p /etc/postgresql-common
  [[ -e /etc/postgresql-common/createcluster.conf ]] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
  apt-get install -q -y --no-install-recommends postgresql
  exit 0
fi
echo "no Postgres found: install the server (Debian: apt-get install postgresql) or set TEST_DATABASE_URL to one whose user may create databases" >&2
exit 1
