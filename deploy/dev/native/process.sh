# shellcheck shell=bash
# Processes that outlive the command that started them. Each has a folder $services/NAME with `pid` and `log`.
# Sourced by `servers`.
: "${services:?}"

# launch NAME COMMAND [ARGUMENT...]: in a session of its own, so that Ctrl-C at the terminal does not end it.
launch() {
    local name=$1 pid
    shift
    (
        close_inherited
        exec setsid "$@"
    ) </dev/null >>"$services/$name/log" 2>&1 &
    pid=$!
    disown "$pid"
    echo "$pid $(start_time "$pid")" >"$services/$name/pid"
}

# A server must hold on neither to the lock of `servers` nor to a pipe whose end somebody waits for.
close_inherited() {
    local file
    for file in /proc/self/fd/*; do
        file=${file##*/}
        [ "$file" -le 2 ] || eval "exec $file>&-"
    done
}

is_running() {
    local pid started
    read -r pid started 2>/dev/null <"$services/$1/pid" || return 1
    # The number may by now belong to another process: that one started at another time.
    [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ]
}

# When a process started, in clock ticks since the boot; nothing if there is none or if it has ended.
start_time() {
    # The second field is a name in parentheses, which may hold spaces; the first after it is the state.
    sed -n 's/^.*) //p' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'
}

# finish NAME SIGNAL: tells it to end and waits. A server that does not within 30 s is killed, and that is said.
finish() {
    local name=$1 signal=$2 pid tick
    if is_running "$name"; then
        read -r pid _ <"$services/$name/pid"
        kill -s "$signal" "$pid" || true
        for ((tick = 0; tick < 300; tick++)); do
            is_running "$name" || break
            sleep 0.1
        done
        if is_running "$name"; then
            echo "$name did not stop within 30 s and was killed" >&2
            kill -s KILL "$pid" || true
        fi
    fi
    rm -f "$services/$name/pid"
}
