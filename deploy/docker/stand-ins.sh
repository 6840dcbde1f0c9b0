#!/bin/sh
# Makes stand-ins for the base images of the Dockerfile and docker-compose.yml, under their names, where none can be
# pulled: from Debian's packages, this machine's Rust toolchain with what Cargo has downloaded, and its Envoy.
# For trying the files out; never for production. Images that are there already stay as they are.
#
# Needs root, debootstrap, docker, cargo, prometheus; ENVOY_BIN or what `cargo xtask up` installed.
set -eu
cd "$(dirname "$0")/../.."
top=$PWD
folder=$top/target/stand-ins
mkdir -p "$folder"

have() { docker image inspect "$1" >/dev/null 2>&1; }
build() {
    # Without a network: everything is in the context.
    echo "making a stand-in for $1"
    docker build --quiet --network none --tag "$1" "$2" >/dev/null
}

envoy=${ENVOY_BIN:-$(ls "$top"/target/venv/lib/python*/site-packages/envoy/_bin/envoy 2>/dev/null | head -1)}
[ -n "$envoy" ] || { echo "no Envoy: set ENVOY_BIN" >&2; exit 1; }

if ! have debian:bookworm-slim; then
    rm -rf "$folder/debian"
    debootstrap --variant=minbase bookworm "$folder/debian" >"$folder/debian.log"
    tar -C "$folder/debian" -c . | docker import - debian:bookworm-slim >/dev/null
fi

if ! have rust:1.95-slim-bookworm; then
    rm -rf "$folder/rust"
    debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev bookworm "$folder/rust" >"$folder/rust.log"
    cargo fetch --quiet
    # The toolchain itself, without rustup: its wasm target is there, so a no-op answers `rustup target add`.
    rustup target add wasm32-unknown-unknown
    mkdir -p "$folder/rust/usr/local/rust" "$folder/rust/usr/local/cargo"
    cp -a "$(rustc --print sysroot)/." "$folder/rust/usr/local/rust/"
    cp -a "${CARGO_HOME:-$HOME/.cargo}/registry" "$folder/rust/usr/local/cargo/"
    printf '#!/bin/sh\nexit 0\n' >"$folder/rust/usr/local/bin/rustup"
    chmod 755 "$folder/rust/usr/local/bin/rustup"
    tar -C "$folder/rust" -c . | docker import \
        --change 'ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'ENV CARGO_HOME=/usr/local/cargo' --change 'ENV CARGO_NET_OFFLINE=true' - rust:1.95-slim-bookworm >/dev/null
    rm -rf "$folder/rust"
fi

if ! have envoyproxy/envoy:distroless-v1.40.0; then
    rm -rf "$folder/envoy"
    mkdir -p "$folder/envoy/files/usr/local/bin"
    cp "$envoy" "$folder/envoy/files/usr/local/bin/envoy"
    # The libraries that it is linked with, and nothing else, as in the public image.
    ldd "$envoy" | grep -o '/[^ ]*' | sort -u | xargs cp --parents --dereference --target-directory "$folder/envoy/files"
    printf 'FROM scratch\nCOPY files/ /\nUSER 65532:65532\nENTRYPOINT ["/usr/local/bin/envoy"]\n' >"$folder/envoy/Dockerfile"
    build envoyproxy/envoy:distroless-v1.40.0 "$folder/envoy"
fi

if ! have postgres:17-bookworm; then
    rm -rf "$folder/postgres"
    debootstrap --variant=minbase --include=postgresql bookworm "$folder/postgres" >"$folder/postgres.log"
    # The same variables as the public image's, as far as docker-compose.yml uses them.
    cat >"$folder/postgres/usr/local/bin/start" <<'END'
#!/bin/sh
set -eu
bin=$(echo /usr/lib/postgresql/*/bin)
data=/var/lib/postgresql/data
if [ "$(id -u)" = 0 ]; then
    chown postgres "$data" && chmod 700 "$data"
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0"
fi
if [ ! -s "$data/PG_VERSION" ]; then
    "$bin/initdb" --pgdata="$data" --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-host=scram-sha-256 --auth-local=trust
    echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
    "$bin/pg_ctl" --pgdata="$data" --options="-c listen_addresses= -k /tmp" --wait start
    "$bin/createdb" --host=/tmp --username="$POSTGRES_USER" "$POSTGRES_DB"
    "$bin/pg_ctl" --pgdata="$data" --mode=fast --wait stop
fi
exec "$bin/postgres" -D "$data" -c listen_addresses='*' -k /tmp
END
    chmod 755 "$folder/postgres/usr/local/bin/start"
    chroot "$folder/postgres" groupmod --gid 999 postgres
    chroot "$folder/postgres" usermod --uid 999 postgres
    mkdir -p "$folder/postgres/var/lib/postgresql/data"
    tar -C "$folder/postgres" -c . | docker import --change 'CMD ["start"]' - postgres:17-bookworm >/dev/null
    rm -rf "$folder/postgres"
fi

if ! have prom/prometheus:v3.5.0; then
    rm -rf "$folder/prometheus"
    mkdir -p "$folder/prometheus/files/bin" "$folder/prometheus/data"
    for program in prometheus promtool; do
        file=$(command -v $program) || { echo "no $program: install Debian's package prometheus" >&2; exit 1; }
        cp "$file" "$folder/prometheus/files/bin/"
        ldd "$file" | grep -o '/[^ ]*' | sort -u | xargs cp --parents --dereference --target-directory "$folder/prometheus/files"
    done
    # A volume takes its owner from the folder of the image.
    cat >"$folder/prometheus/Dockerfile" <<'END'
FROM scratch
COPY files/ /
COPY --chown=65534:65534 data /prometheus
USER 65534:65534
WORKDIR /prometheus
ENV PATH=/bin
ENTRYPOINT ["/bin/prometheus"]
END
    build prom/prometheus:v3.5.0 "$folder/prometheus"
fi
