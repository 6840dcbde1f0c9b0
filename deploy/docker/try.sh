#!/bin/sh
# Shows that the containers of docker-compose.yml work together: makes a key, calls through Envoy with it, without
# it, and after it was deleted. Run it beside `docker compose up`; ends with 0 when everything was as it should be.
set -eu
cd "$(dirname "$0")/../.."

compose() { if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi; }
keyward() { compose exec -T -e KEYWARD_ADMIN_TOKEN_FILE=/run/secrets/admin-token keyward keyward "$@"; }
status() { curl --silent --output /dev/null --write-out '%{http_code}' "$@"; }
expect() {
    got=$1 wanted=$2 what=$3
    if [ "$got" != "$wanted" ]; then
        echo "failed: $what: $got instead of $wanted" >&2
        exit 1
    fi
    echo "ok: $what: $got"
}

api=http://127.0.0.1:10000
records=$api/api/collections/posts/records

echo "waiting for Envoy to have keys"
tries=0
until [ "$(status $api/keyward/ready)" = 200 ]; do
    tries=$((tries + 1))
    if [ $tries -gt 120 ]; then
        echo "failed: Envoy is not ready after two minutes; see: docker compose logs" >&2
        exit 1
    fi
    sleep 1
done

name="try $(date +%s)"
answer=$(keyward key create "$name" --permissions records:read --expires-in 7d --json)
key=$(printf %s "$answer" | sed -n 's/.*"key": *"\([^"]*\)".*/\1/p')
id=$(printf %s "$answer" | sed -n 's/.*"id": *"\([^"]*\)".*/\1/p')

tries=0
until [ "$(status $records -H "X-Api-Key: $key")" = 200 ] || [ $tries -ge 20 ]; do
    tries=$((tries + 1))
    sleep 0.5
done
expect "$(status $records -H "X-Api-Key: $key")" 200 "with a key"
expect "$(status $records)" 401 "without a key"
expect "$(status -X DELETE $records/abc -H "X-Api-Key: $key")" 403 "without the permission"
expect "$(status $api/api/health)" 200 "a public route"
caller=$(curl --silent --head $records -H "X-Api-Key: $key" | tr -d '\r' | sed -n 's/^x-caller-id: //p')
expect "$caller" "$id" "the upstream knows the caller"
keyward key delete "$id" --json >/dev/null
expect "$(status $records -H "X-Api-Key: $key")" 401 "after the key was deleted"
