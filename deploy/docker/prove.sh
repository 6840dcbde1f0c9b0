#!/bin/sh
# Builds and runs docker-compose.yml from this checkout, tries it, and takes it down again.
#
#   deploy/docker/prove.sh               with the public base images
#   deploy/docker/prove.sh --stand-ins   where no image can be pulled: with images of the same names that are made
#                                        here from Debian's packages and this machine's Rust and Envoy (root, Debian)
#
# The containers and volumes are its own (project keyward-prove); the ports are those of docker-compose.yml.
set -eu
cd "$(dirname "$0")/../.."

if [ "${1-}" = --stand-ins ]; then
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
    compose down --volumes --remove-orphans >/dev/null 2>&1 || true
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

compose build
compose up --detach
deploy/docker/try.sh
# Nobody is root, but PostgreSQL's own start and the one that makes the secrets. The images have no shell, so the engine is asked.
for service in keyward records-api envoy; do
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
for image in keyward records-api envoy; do
    if compose run --rm --no-deps --entrypoint sh $image -c true >/dev/null 2>&1; then
        echo "failed: the image of $image has a shell" >&2
        exit 1
    fi
    echo "ok: the image of $image has no shell"
done
# What was written outlives its containers.
compose restart keyward envoy
deploy/docker/try.sh
echo "the containers work together"
