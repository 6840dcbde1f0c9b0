#!/bin/sh
# Builds and runs docker-compose.yml from this checkout, tries it, and takes it down again: the containers of the plain
# start, Envoy with the native edition beside them, and the profile with Prometheus and Grafana, where no panel of the
# dashboard may be empty.
#
#   deploy/docker/prove.sh               with the public base images
#   deploy/docker/prove.sh --stand-ins   where no image can be pulled: with images of the same names that are made
#                                        here from Debian's packages and this machine's Rust and Envoy (root, Debian).
#                                        Grafana has no stand-in, so it is left out, and the last line says so.
#
# The containers and volumes are its own (project keyward-prove); the ports are those of docker-compose.yml, and 10001.
set -eu
cd "$(dirname "$0")/../.."

stand_ins=
if [ "${1-}" = --stand-ins ]; then
    stand_ins=yes
    deploy/docker/stand-ins.sh
fi
compose() { if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi; }
export COMPOSE_PROJECT_NAME=keyward-prove
finish() {
    status=$?
    if [ $status -ne 0 ]; then
        compose ps
        # Without the questions of health, which drown everything else.
        compose logs --tail=400 | grep -v -e /keyward/ready -e /api/health
    fi
    COMPOSE_PROFILES=native,observability compose down --volumes --remove-orphans >/dev/null 2>&1 || true
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

# Envoy with the native edition, with its shipped configuration and the addresses of docker-compose.yml's network.
folder=target/prove
mkdir -p $folder
sed -e 's|address: 127.0.0.1, port_value: 10000|address: 0.0.0.0, port_value: 10000|' \
    -e 's|address: 127.0.0.1, port_value: 8090|address: records-api, port_value: 8090|' \
    -e 's|address: 127.0.0.1, port_value: 8081|address: keyward, port_value: 8081|' \
    -e 's|filename: target/dist/libkeyward.so|filename: /opt/keyward/libkeyward-0.1.0.so|' \
    -e 's|path: deploy/envoy/edge-token.yaml|path: /etc/keyward/edge-token.yaml|' deploy/envoy/native.yaml >$folder/envoy.yaml
sed -e 's|filename: target/up/edge-token|filename: /run/secrets/edge-token|' \
    -e 's|path: target/up}|path: /run/secrets}|' deploy/envoy/edge-token.yaml >$folder/edge-token.yaml
cat >$folder/native.yml <<'END'
version: "3.8"
services:
  envoy-native:
    profiles: [native]
    build: {context: ., dockerfile: deploy/docker/Dockerfile, target: envoy-native}
    command: ["--config-path", "/etc/keyward/envoy.yaml", "--disable-hot-restart", "--service-node", "envoy-native"]
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    # The group that may read the edge token.
    group_add: ["101"]
    networks: [keys, upstream]
    ports: ["127.0.0.1:10001:10000"]
    volumes: ["secrets:/run/secrets:ro", "./target/prove:/etc/keyward:ro"]
END
chmod 755 $folder && chmod 644 $folder/*
export COMPOSE_FILE=docker-compose.yml:$folder/native.yml

keyward() { compose exec -T -e KEYWARD_ADMIN_TOKEN_FILE=/run/secrets/admin-token keyward keyward "$@"; }
status() { curl --silent --output /dev/null --write-out '%{http_code}' "$@"; }
# Waits until a request is answered so, a minute at most: `answers STATUS WHAT CURL-ARGUMENTS`.
answers() {
    wanted=$1 what=$2 tries=0
    shift 2
    until [ "$(status "$@")" = "$wanted" ]; do
        tries=$((tries + 1))
        [ $tries -le 60 ] || { echo "failed: $what: $(status "$@") instead of $wanted" >&2; exit 1; }
        sleep 1
    done
    echo "ok: $what: $wanted"
}
# A key that may read records, and nothing else.
new_key() { keyward key create "$1" --permissions records:read --expires-in 7d --json | sed -n 's/.*"key": *"\([^"]*\)".*/\1/p'; }

COMPOSE_PROFILES=native compose build
compose up --detach
deploy/docker/try.sh
for service in prometheus grafana envoy-native; do
    [ -z "$(docker ps --quiet --filter label=com.docker.compose.project=$COMPOSE_PROJECT_NAME \
        --filter label=com.docker.compose.service=$service)" ] || { echo "failed: the plain start has $service" >&2; exit 1; }
done
echo "ok: the plain start has neither Prometheus nor Grafana"
export COMPOSE_PROFILES=native,observability
compose up --detach --no-deps envoy-native
native=http://127.0.0.1:10001
answers 200 "native edition: ready" $native/keyward/ready
key=$(new_key "native $(date +%s)")
answers 200 "native edition: with a key" $native/api/collections/posts/records -H "X-Api-Key: $key"
answers 401 "native edition: without a key" $native/api/collections/posts/records
answers 403 "native edition: without the permission" -X DELETE $native/api/collections/posts/records/abc -H "X-Api-Key: $key"
# Nobody is root, but PostgreSQL's own start and the one that makes the secrets. The images have no shell, so the engine is asked.
for service in keyward records-api envoy envoy-native; do
    user=$(docker top "$(compose ps -q $service)" -eo pid,uid | awk 'NR == 2 { print $2 }')
    [ "$user" != 0 ] || { echo "failed: $service runs as root" >&2; exit 1; }
    echo "ok: $service runs as $user"
done
# The health checks of the images, which need no shell either.
for service in keyward records-api envoy; do
    tries=0
    until [ "$(docker inspect --format '{{.State.Health.Status}}' "$(compose ps -q $service)")" = healthy ]; do
        tries=$((tries + 1))
        [ $tries -le 60 ] || { echo "failed: $service is not healthy after a minute" >&2; exit 1; }
        sleep 1
    done
    echo "ok: $service is healthy"
done
for image in keyward records-api envoy envoy-native; do
    if compose run --rm --no-deps --entrypoint sh $image -c true >/dev/null 2>&1; then
        echo "failed: the image of $image has a shell" >&2
        exit 1
    fi
    echo "ok: the image of $image has no shell"
done
# What was written outlives its containers.
compose restart keyward envoy
deploy/docker/try.sh

# Prometheus, asked within its network, as nothing of it is reached from outside, what each panel of the dashboard asks.
if [ "$stand_ins" ]; then observers=prometheus; else observers="prometheus grafana"; fi
compose up --detach --no-deps $observers
sed -n -e 's/^ *"title": "\(.*\)",\{0,1\}$/title \1/p' -e 's/^ *"expr": "\(.*\)",\{0,1\}$/expr \1/p' deploy/observability/dashboard.json |
    sed -e 's/\\"/"/g' -e 's/\\\\/\\/g' -e 's/\$__rate_interval/60s/g' >$folder/panels
expressions=$(grep -c '^expr ' $folder/panels)
[ "$expressions" = "$(grep -c '"expr":' deploy/observability/dashboard.json)" ] && [ "$expressions" -gt 20 ] ||
    { echo "failed: the expressions of the dashboard were not read" >&2; exit 1; }
ask() { compose exec -T prometheus promtool query instant http://127.0.0.1:9090 "$1" </dev/null; }
# Prints the titles of the panels that show nothing, one a line. A value that is not a number shows nothing.
empty_panels() {
    while read -r kind text; do
        if [ "$kind" = title ]; then
            title=$text
        elif ! ask "$text" >$folder/answer; then
            echo "$title: Prometheus refuses $text"
        elif grep -v '=> NaN ' $folder/answer | grep -q '=>'; then
            echo "$title" >>$folder/filled
        else
            echo "$title" >>$folder/empty
        fi
    done <$folder/panels
    sort -u $folder/empty | grep -v -x -F -f $folder/filled || true
}
key=$(new_key "dashboard $(date +%s)")
tries=0
while :; do
    # Rates need two scrapes between which something happens, and the denials of a key are counted every half minute.
    deploy/docker/try.sh >$folder/try.log || { cat $folder/try.log; exit 1; }
    status -X DELETE http://127.0.0.1:10000/api/collections/posts/records/abc -H "X-Api-Key: $key" >/dev/null
    : >$folder/filled && : >$folder/empty
    empty=$(empty_panels)
    [ "$empty" ] || break
    tries=$((tries + 1))
    [ $tries -le 15 ] || { echo "failed: panels of the dashboard that stay empty:" >&2; echo "$empty" >&2; exit 1; }
    sleep 10
done
echo "ok: every panel of the dashboard has data ($expressions expressions)"
if [ "$stand_ins" ]; then
    echo "the containers work together; not tried: Grafana, for which there is no stand-in"
    exit
fi
grafana=http://127.0.0.1:3000
answers 200 "Grafana has the dashboard" $grafana/api/dashboards/uid/keyward
answers 200 "Grafana asks Prometheus" "$grafana/api/datasources/proxy/uid/prometheus/api/v1/query?query=up"
# Fails if a request succeeds that a visitor may not make: `refused WHAT CURL-ARGUMENTS`.
refused() {
    what=$1
    shift
    got=$(status "$@")
    case $got in
        401 | 403) echo "ok: $what: $got" ;;
        *) echo "failed: $what: $got instead of 401 or 403" >&2; exit 1 ;;
    esac
}
refused "Grafana takes no dashboard from a visitor" -X POST $grafana/api/dashboards/db -H "Content-Type: application/json" \
    --data '{"dashboard": {"title": "Of a visitor"}}'
refused "Grafana has no user with the usual password" $grafana/api/user --user admin:admin
echo "the containers work together"
