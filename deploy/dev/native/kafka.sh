# shellcheck shell=bash
# Kafka from Maven: one node that is broker and controller. Sourced by `servers`.
: "${services:?}"

kafka_programs() {
    if command -v java >/dev/null && command -v mvn >/dev/null; then
        echo "$services/kafka/lib"
    fi
}

# Fetches the jars, once for each version of the pom (Maven keeps them under ~/.m2), and formats a folder that every node
# starts from as a copy, which saves each of them a second.
kafka_prepare() {
    local pom=deploy/dev/kafka/pom.xml home=$services/kafka
    # Not under a broker that runs: then a new version waits for the next `down` and `up`.
    if is_running kafka || cmp -s "$pom" "$home/pom.xml"; then
        return
    fi
    echo "Fetching Kafka with Maven"
    mkdir -p "$home"
    rm -rf "${home:?}/lib" "$home/formatted"
    mvn --quiet --batch-mode --file "$pom" dependency:copy-dependencies "-DoutputDirectory=$home/lib" >"$home/fetch.log" 2>&1 ||
        fail "Kafka could not be fetched:" "$(cat "$home/fetch.log")"
    kafka_settings 9092 9093 "$home/formatted" >"$home/format.properties"
    java -cp "$home/lib/*" kafka.tools.StorageTool format --cluster-id "$(random_cluster_id)" \
        --config "$home/format.properties" >"$home/format.log" 2>&1 || fail "$(cat "$home/format.log")"
    cp "$pom" "$home/pom.xml"
}

# Sixteen random bytes in the alphabet of URLs, as Kafka makes them; a first `-` would be taken for an option.
random_cluster_id() {
    head -c 16 /dev/urandom | base64 | tr '+/' 'Az' | tr -d '='
}

kafka_launch() {
    local port=$1 controller=$2 home=$services/kafka
    [ -e "$home/data" ] || cp -r "$home/formatted" "$home/data"
    kafka_settings "$port" "$controller" "$home/data" >"$home/server.properties"
    launch kafka java -Xms256m -Xmx1g -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$home/lib/*" \
        kafka.Kafka "$home/server.properties"
}

# kafka_settings PORT CONTROLLER_PORT FOLDER
kafka_settings() {
    cat <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$2
listeners=PLAINTEXT://127.0.0.1:$1,CONTROLLER://127.0.0.1:$2
advertised.listeners=PLAINTEXT://127.0.0.1:$1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$3
num.partitions=8
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
# Otherwise every first member of a group waits three seconds for others.
group.initial.rebalance.delay.ms=0
END
}

kafka_finish() {
    finish kafka TERM
}
