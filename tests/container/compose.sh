#!/bin/sh
# Builds the images, does what README.md says of containers, and watches the configuration of the
# three agents, then changed by psql, then changed again after a restart of everything, reach every
# agent's disk and come back as applied. Removes what it started, but for the images.
#
# Needs a Docker engine on this machine and docker compose or docker-compose (else it is skipped).
# Where the base image is neither there nor can be pulled, it is made with debootstrap.
#
#   HEADWATER_BASE  the Debian image to build upon (default debian:12-slim)
#   HEADWATER_PORT  the API's port (default: any free one)
#
# Exit status: 0 passed, 77 skipped, else failed.
set -eu

# shellcheck source=tests/container/support.sh
. "$(dirname "$0")/support.sh"
project=headwater-test-$$
export COMPOSE_PROJECT_NAME="$project"
started=

# Runs either of the two; their common options must come behind the command.
compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose "$@"
    else
        docker-compose "$@"
    fi
}

# Runs README.md's commands, up to the first one that fails.
do_as_told() {
    commands=$("$here/../readme" 'In containers')
    docker compose version >/dev/null 2>&1 ||
        commands=$(printf '%s\n' "$commands" | sed 's/docker compose/docker-compose/g')
    [ -n "$commands" ] || fail "README.md has no commands"
    timeout 300 sh -euc "$commands" </dev/null || fail "README.md, In containers"
}

tidy_up() {
    [ -n "$started" ] || return 0
    if [ "$1" -ne 0 ]; then
        compose ps -a >&2 || true
        compose logs --tail=40 >&2 || true
    fi
    compose down -v >/dev/null 2>&1
}

# until_true SECONDS WHAT COMMAND...: fails with WHAT when the command does not succeed in time.
until_true() {
    deadline=$(($(date +%s) + $1))
    what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$deadline" ] || fail "$what: not in time"
        sleep 0.2
    done
}

# is_free PORT: nobody listens there, so that connecting is refused (curl's exit status 7).
is_free() {
    connected=0
    curl -s -o /dev/null --max-time 2 "http://127.0.0.1:$1/" || connected=$?
    [ "$connected" -eq 7 ]
}

choose_port() {
    port=$((20000 + $$ % 10000))
    until is_free "$port"; do
        port=$((port + 1))
    done
    echo "$port"
}

provide_base() {
    if docker image inspect "$HEADWATER_BASE" >/dev/null 2>&1; then
        return
    fi
    say "pulling $HEADWATER_BASE"
    if docker pull --quiet "$HEADWATER_BASE"; then
        return
    fi
    if [ "$(id -u)" -ne 0 ] || ! command -v debootstrap >/dev/null; then
        skip "$HEADWATER_BASE cannot be pulled; root and debootstrap, to make it, are not here"
    fi
    HEADWATER_BASE=headwater-test-base
    say "it cannot be pulled: making $HEADWATER_BASE with debootstrap"
    make_system "$work/root" ''
    tar -C "$work/root" -c . | docker import - "$HEADWATER_BASE" >/dev/null
}

sql() {
    compose exec -T db psql -X -q -At -v ON_ERROR_STOP=1 -d headwater -c "$1" </dev/null
}

# all_applied REVISION: do all three nodes run that revision?
all_applied() {
    [ "$(sql "SELECT count(*) FROM headwater.fleet
              WHERE state = 'in_sync' AND desired_revision = $1 AND reported_revision = $1")" = 3 ]
}

has_migrated() {
    [ "$(docker inspect --format '{{.State.Status}} {{.State.ExitCode}}' \
        "$(compose ps -a -q migrate)")" = 'exited 0' ]
}

# on_every_disk CONTENT: fails unless each agent's file holds it.
on_every_disk() {
    for index in 1 2 3; do
        found=$(compose exec -T --index="$index" agent \
            cat /var/lib/headwater-agent/config.json </dev/null)
        [ "$found" = "$1" ] || fail "agent $index holds $found instead of $1"
    done
}

command -v docker >/dev/null || skip "docker is not installed"
docker info >/dev/null 2>&1 || skip "no Docker engine answers"
compose version >/dev/null 2>&1 || skip "neither docker compose nor docker-compose is installed"
command -v curl >/dev/null || skip "curl is not installed"

make_work
cd "$repository"

HEADWATER_BASE=${HEADWATER_BASE:-debian:12-slim}
HEADWATER_PORT=${HEADWATER_PORT:-$(choose_port)}
export HEADWATER_BASE HEADWATER_PORT
api=http://127.0.0.1:$HEADWATER_PORT
provide_base

say "building"
compose build >/dev/null
say "doing what README.md says"
started=yes
do_as_told
until_true 60 "the API, from outside" curl -fsS "$api/readyz"
until_true 60 "revision 1 on all agents" all_applied 1
on_every_disk '{"rate_hz":1000,"trigger":"internal"}'

say "changing it by psql"
sql "UPDATE headwater.config SET content = '{\"rate_hz\": 2000}' WHERE name = 'base'"
until_true 60 "revision 2 on all agents" all_applied 2
on_every_disk '{"rate_hz": 2000}'

say "asking an agent's container for the database and for the API, which it may not reach"
gateway=$(docker network inspect --format '{{(index .IPAM.Config 0).Gateway}}' "${project}_nodes")
compose exec -T agent test ! -e /run/postgresql </dev/null || fail "an agent sees PostgreSQL's socket"
compose exec -T agent curl -s -o /dev/null --max-time 5 "http://$gateway:$HEADWATER_PORT/healthz" \
    </dev/null && fail "an agent reaches the API"

say "restarting everything, and changing it once more"
compose restart >/dev/null 2>&1 || fail "restart"
until_true 60 "the API, after a restart" curl -fsS "$api/readyz"
until_true 60 "migrate, after a restart" has_migrated
sql "UPDATE headwater.config SET content = '{\"rate_hz\": 3000}' WHERE name = 'base'"
until_true 60 "revision 3 on all agents" all_applied 3
on_every_disk '{"rate_hz": 3000}'

say "stopping and removing"
compose down -v >/dev/null 2>&1
started=
[ -z "$(docker ps -aq --filter "label=com.docker.compose.project=$project")" ] ||
    fail "containers are left"
[ -z "$(docker volume ls -q --filter "label=com.docker.compose.project=$project")" ] ||
    fail "volumes are left"
say "passed"
