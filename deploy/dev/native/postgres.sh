# shellcheck shell=bash
# Postgres from Debian's package, as an own cluster. Sourced by `servers`.
: "${services:?}"

# Debian keeps the programs out of the PATH, one folder for each version; the newest wins.
postgres_programs() {
    local folder
    folder=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
    if [ -x "$folder/initdb" ]; then
        echo "$folder"
    elif command -v initdb >/dev/null; then
        dirname "$(command -v initdb)"
    fi
}

# Postgres refuses to run as root: then it runs as the package's user. Prints nothing for everybody else.
postgres_user() {
    if [ "$(id -u)" -eq 0 ]; then
        id -un postgres 2>/dev/null || echo nobody
    fi
}

# Runs its arguments as that user, from a folder that every user may enter.
as_postgres() {
    # shellcheck disable=SC2046 # the prefix is words
    env --chdir=/ $(postgres_prefix) "$@"
}

postgres_prefix() {
    local user
    user=$(postgres_user)
    [ -z "$user" ] || echo "setpriv --reuid $user --regid $(id -g "$user") --clear-groups --"
}

# Where the cluster lies: under target/, unless the user that it runs as may not go there (a checkout under /root).
postgres_folder() {
    if as_postgres test -x "$services/postgres"; then
        echo "$services/postgres/cluster"
    else
        echo "/var/tmp/crossdock-postgres-$(checkout_hash)"
    fi
}

postgres_launch() {
    local port=$1 folder programs
    programs=$(postgres_programs)
    folder=$(postgres_folder)
    if [ ! -e "$folder/PG_VERSION" ]; then
        postgres_create "$programs" "$folder"
    fi
    # Durability is on: the tests hold the hub to what it promises about kill -9. After an unclean end the data folder is
    # made durable as a whole: file by file, 13,000 files took 26 s, and this half a second.
    # shellcheck disable=SC2046 # the prefix is words
    launch postgres env --chdir=/ $(postgres_prefix) "$programs/postgres" -D "$folder" -p "$port" \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c wal_level=logical -c max_connections=300 \
        -c max_prepared_transactions=20 -c max_wal_senders=20 -c max_replication_slots=20 \
        -c recovery_init_sync_method=syncfs
}

postgres_create() {
    local programs=$1 folder=$2 user
    user=$(postgres_user)
    [[ "$folder" == "$services"/* ]] || echo "Postgres keeps its data in $folder: its user may not enter this checkout"
    rm -rf "$folder"
    mkdir -m 700 "$folder"
    [ -z "$user" ] || chown "$user" "$folder"
    as_postgres "$programs/initdb" -D "$folder" -U crossdock -A trust -E UTF8 --no-locale >"$services/postgres/initdb.log" 2>&1 ||
        fail "$(cat "$services/postgres/initdb.log")"
}

postgres_finish() {
    # SIGINT is the fast shutdown: clients are cut off, the data is left clean.
    finish postgres INT
}
