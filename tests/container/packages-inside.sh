#!/bin/sh
# Runs inside a booted system with the packages, PostgreSQL and NATS, started by packages.sh. Configures the
# services and has them do their work, ends them in the ways that systemd knows, upgrades the packages, and
# removes them.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

api=http://127.0.0.1:8080
services='headwater-api headwater-reconciler headwater-agent headwater-agent@daq-2'
outputs='/var/lib/headwater-agent/config.json /var/lib/headwater-agent/daq-2/config.json'

say() {
    echo "inside: $*"
}

fail() {
    trap - EXIT
    journalctl --no-pager --lines 200 | grep -i headwater | tail -n 60
    say "failed: $*"
    exit 1
}

# until_true WHAT COMMAND...: tries for a minute.
until_true() {
    what=$1
    shift
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || fail "$what"
        sleep 0.2
    done
}

shows() {
    [ "$(systemctl show -P "$2" "$1")" = "$3" ]
}

# The reconciler's status says that it waits, and why.
waits_for_postgresql() {
    systemctl show -P StatusText headwater-reconciler | grep -q '^PostgreSQL cannot be reached: '
}

put() {
    curl -fsS -o /dev/null -X PUT -H 'Content-Type: application/json' --data "$2" "$api$1"
}

on_disk() {
    for output in $outputs; do
        [ "$(cat "$output")" = "$1" ] || return 1
    done
}

restarted() {
    [ "$(systemctl show -P InvocationID "$1")" != "$2" ] && systemctl -q is-active "$1"
}

trap 'fail "line ended with status $?"' EXIT

say "nothing is started that was not configured"
for service in $services; do
    shows "$service" ActiveState inactive || fail "$service runs"
    ! systemctl -q is-enabled "$service" || fail "$service is enabled"
done
! systemctl start headwater-api 2>/dev/null || fail "the API starts without a database"
shows headwater-api ExecMainStatus 2 || fail "the API does not say that it is used wrongly"
shows headwater-api ActiveState failed || fail "the API is started again and again"
systemctl reset-failed headwater-api

say "configuring PostgreSQL and NATS"
version=$(ls /etc/postgresql)
postgres=/etc/postgresql/$version/main
cat >"$postgres/conf.d/headwater.conf" <<'END'
wal_level = logical
END
if "/usr/lib/postgresql/$version/bin/postgres" --describe-config | grep -q ^output_plugin_libraries; then
    echo "output_plugin_libraries = 'pgoutput, test_decoding, wal2json'" \
        >>"$postgres/conf.d/headwater.conf"
fi
# The reconciler connects by the socket and is known by its user; the API has a password.
sed -i '1i local headwater headwater_reconciler peer map=headwater' "$postgres/pg_hba.conf"
echo 'headwater headwater-reconciler headwater_reconciler' >>"$postgres/pg_ident.conf"
printf '\njetstream {\n    store_dir: /var/lib/nats\n}\n' >>/etc/nats-server.conf
install -d -o nats -g nats -m 0700 /var/lib/nats
systemctl restart "postgresql@$version-main" nats-server
runuser -u postgres -- createdb -T template0 -E UTF8 headwater
runuser -u postgres -- headwater-api migrate --database 'host=/run/postgresql dbname=headwater'
runuser -u postgres -- psql -qX -d headwater -c "ALTER ROLE headwater_api PASSWORD 'a b''c'"

say "configuring and starting the services"
cat >/etc/headwater/api.pg_service.conf <<'END'
[headwater]
host=127.0.0.1
dbname=headwater
user=headwater_api
password=a b'c
END
chmod 0600 /etc/headwater/api.pg_service.conf
echo 'HEADWATER_DATABASE_URL=service=headwater' >>/etc/headwater/api.env
echo 'HEADWATER_DATABASE_URL=host=/run/postgresql dbname=headwater user=headwater_reconciler' \
    >>/etc/headwater/reconciler.env
cat >>/etc/headwater/agent.env <<'END'
HEADWATER_NODE=daq-1
HEADWATER_OUTPUT=/var/lib/headwater-agent/config.json
HEADWATER_APPLY=sh -c 'cp "$HEADWATER_FILE" "$HEADWATER_FILE.used"'
END
echo 'HEADWATER_OUTPUT=/var/lib/headwater-agent/daq-2/config.json' >/etc/headwater/agent-daq-2.env
# The agent makes the state directory of daq-2 itself.
for service in $services; do
    systemctl start "$service" || fail "$service does not start"
    shows "$service" ActiveState active || fail "$service is not active"
    say "$service: $(systemctl show -P StatusText "$service")"
done
shows headwater-api StatusText 'serving 127.0.0.1:8080' || fail "the API's status"
shows headwater-reconciler StatusText streaming || fail "the reconciler's status"

say "a configuration goes all the way"
for node in daq-1 daq-2; do
    put "/v1/nodes/$node" '{"labels":{"at":"test"}}'
done
put /v1/configs/base '{"rate_hz": 1000}'
put /v1/assignments/all '{"config":"base","selector":{"at":"test"}}'
until_true "the configuration on the disk" on_disk '{"rate_hz": 1000}'
until_true "the command" test -e /var/lib/headwater-agent/config.json.used

say "reloading, and a loop that is stuck"
for service in headwater-api headwater-agent headwater-agent@daq-2; do
    systemctl reload "$service" || fail "$service cannot be reloaded"
    systemctl -q is-active "$service" || fail "$service does not outlive a reload"
done
for service in $services; do
    directory=/run/systemd/system/$service.service.d
    mkdir -p "$directory"
    printf '[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n' >"$directory/test.conf"
done
systemctl daemon-reload
for service in $services; do
    systemctl restart "$service"
    was=$(systemctl show -P InvocationID "$service")
    kill -STOP "$(systemctl show -P MainPID "$service")"
    until_true "a new $service" restarted "$service" "$was"
done
rm -r /run/systemd/system/*.service.d/test.conf
systemctl daemon-reload

say "starting while the servers are away"
systemctl stop headwater-reconciler "postgresql@$version-main"
systemctl start --no-block headwater-reconciler
until_true "the reconciler's patience" waits_for_postgresql
shows headwater-reconciler ActiveState activating || fail "the reconciler is there too early"
systemctl start "postgresql@$version-main"
until_true "the reconciler" shows headwater-reconciler ActiveState active

say "upgrading"
for service in $services; do
    systemctl restart "$service"
    systemctl show -P InvocationID "$service" >"/run/was-$service"
done
dpkg -i /packages/*.deb >/dev/null
for service in $services; do
    until_true "$service, after an upgrade" restarted "$service" "$(cat "/run/was-$service")"
done
[ "$(tail -n 1 /etc/headwater/api.env)" = 'HEADWATER_DATABASE_URL=service=headwater' ] ||
    fail "the configuration is gone"
put /v1/configs/base '{"rate_hz": 2000}'
until_true "another configuration on the disk" on_disk '{"rate_hz": 2000}'

say "what the services may not do"
for service in $services; do
    process=$(systemctl show -P MainPID "$service")
    grep -q '^NoNewPrivs:[[:space:]]*1$' "/proc/$process/status" || fail "$service gains privileges"
    grep -q '^CapBnd:[[:space:]]*0*$' "/proc/$process/status" || fail "$service has capabilities"
    nsenter --target "$process" --mount sh -c ': >/usr/bin/x' 2>/dev/null &&
        fail "$service may write below /usr"
done
! tr '\0' '\n' <"/proc/$(systemctl show -P MainPID headwater-api)/environ" | grep -q "a b'c" ||
    fail "the password is in the environment"

say "stopping and removing"
for service in $services; do
    systemctl stop "$service"
    shows "$service" Result success || fail "$service does not end well"
done
systemctl start headwater-agent headwater-agent@daq-2
dpkg --purge headwater-agent headwater-server >/dev/null 2>&1
[ -z "$(systemctl list-units --no-legend 'headwater-*' --state=active)" ] || fail "something runs"
[ ! -e /var/lib/headwater-agent ] || fail "state is left"
[ "$(ls /etc/headwater)" = "$(printf 'agent-daq-2.env\napi.pg_service.conf')" ] ||
    fail "configuration is left: $(ls /etc/headwater)"
trap - EXIT
say "passed"
