// Reads the first record of a topic with KafkaJS, prints it as JSON, and sends it to another topic as it came.
// usage: node kafkajs.mjs MODULE SERVERS FROM TO
import { createRequire } from "node:module";

const [module, servers, from, to] = process.argv.slice(2);
const { Kafka, logLevel } = createRequire(import.meta.url)(module);
const kafka = new Kafka({ clientId: "another", brokers: servers.split(","), logLevel: logLevel.NOTHING });

const consumer = kafka.consumer({ groupId: `${from}-kafkajs` });
await consumer.connect();
await consumer.subscribe({ topic: from, fromBeginning: true });
const message = await new Promise((resolve) => {
  consumer.run({ eachMessage: async ({ message }) => resolve(message) });
});
const headers = Object.fromEntries(Object.entries(message.headers).map(([name, value]) => [name, value.toString()]));
console.log(JSON.stringify({ key: message.key.toString(), value: message.value.toString(), headers }));

const producer = kafka.producer();
await producer.connect();
await producer.send({
  topic: to,
  messages: [{ key: message.key, value: message.value, headers: message.headers }],
});
await producer.disconnect();
await consumer.disconnect();
