# shellcheck shell=bash
# RabbitMQ from Debian's package, as a private node: nothing of a system-wide one is read or reached. Sourced by `servers`.
: "${services:?}"

# Not the scripts in /usr/sbin: those change the user.
rabbitmq_programs() {
    if [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && command -v epmd >/dev/null; then
        echo /usr/lib/rabbitmq/bin
    fi
}

rabbitmq_launch() {
    local port=$1 distribution=$2 epmd=$3 home=$services/rabbitmq
    rabbitmq_settings "$port" >"$home/rabbitmq.conf"
    rabbitmq_environment "$distribution" "$epmd" >"$home/environment"
    echo '[].' >"$home/plugins"
    # Erlang's own name service; started here, or the node would start one that nobody ends.
    mkdir -p "$services/epmd"
    launch epmd epmd -address 127.0.0.1 -port "$epmd"
    rabbitmq_script rabbitmq-server >"$home/run"
    rabbitmq_script rabbitmqctl >"$home/ctl"
    chmod +x "$home/run" "$home/ctl"
    launch rabbitmq "$home/run"
}

rabbitmq_settings() {
    cat <<END
listeners.tcp.1 = 127.0.0.1:$1
default_user = crossdock
default_pass = crossdock
default_user_tags.administrator = true
log.file = false
log.console = true
log.console.level = warning
vm_memory_high_watermark.absolute = 2GB
disk_free_limit.absolute = 1GB
END
}

rabbitmq_environment() {
    local home=$services/rabbitmq
    cat <<END
HOME='$home'
LANG=C.UTF-8
RABBITMQ_NODENAME=crossdock-$(checkout_hash)@localhost
RABBITMQ_CONFIG_FILE='$home/rabbitmq'
RABBITMQ_CONF_ENV_FILE='$home/none'
RABBITMQ_ADVANCED_CONFIG_FILE='$home/none'
RABBITMQ_ENABLED_PLUGINS_FILE='$home/plugins'
RABBITMQ_MNESIA_BASE='$home/data'
RABBITMQ_LOG_BASE='$home/logs'
RABBITMQ_PID_FILE='$home/node.pid'
RABBITMQ_DIST_PORT=$1
ERL_EPMD_PORT=$2
ERL_EPMD_ADDRESS=127.0.0.1
# Without a parent process in between, so that its pid is the node's and SIGTERM stops it in order.
RUNNING_UNDER_SYSTEMD=true
END
}

# One of RabbitMQ's programs for this node. `ctl` is also for people and tests, for example to add a virtual host.
rabbitmq_script() {
    cat <<END
#!/usr/bin/env bash
set -a
. '$services/rabbitmq/environment'
exec '$(rabbitmq_programs)/$1' "\$@"
END
}

rabbitmq_finish() {
    finish rabbitmq TERM
    finish epmd TERM
}
