# shellcheck shell=bash
# The development servers in Docker, for those who have an engine. Sourced by `servers`.
: "${services:?}"

# A client without an engine does not count, and one that hangs does not either.
docker_answers() {
    local limit="timeout 5"
    command -v timeout >/dev/null || limit=""
    # shellcheck disable=SC2086 # words
    [ -n "$($limit docker info --format '{{.ServerVersion}}' 2>/dev/null)" ] && docker compose version >/dev/null 2>&1
}

start_docker() {
    local name containers
    containers=$(compose ps --quiet)
    for name in "$@"; do
        if [ -z "$containers" ] || [ ! -e "$services/$name/ports" ]; then
            choose_ports "$name"
        fi
    done
    compose up --detach "$@"
    compose_control >"$services/rabbitmq/ctl"
    chmod +x "$services/rabbitmq/ctl"
}

stop_docker() {
    compose down
}

remove_docker() {
    compose down --volumes
}

compose() {
    CROSSDOCK_POSTGRES_PORT=$(docker_port postgres) \
        CROSSDOCK_KAFKA_PORT=$(docker_port kafka) \
        CROSSDOCK_RABBITMQ_PORT=$(docker_port rabbitmq) \
        docker compose --project-name "crossdock-$(checkout_hash)" --file deploy/dev/compose.yaml "$@"
}

# compose.yaml names every port, also that of a server which is not started here.
docker_port() {
    local port=1
    read -r port _ 2>/dev/null <"$services/$1/ports" || true
    echo "$port"
}

# Like the file that a native node gets.
compose_control() {
    cat <<END
#!/usr/bin/env bash
# rabbitmqctl for the development node.
exec docker exec "$(compose ps --quiet rabbitmq)" rabbitmqctl "\$@"
END
}
