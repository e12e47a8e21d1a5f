// Reads the first message of a queue with amqplib, prints it as JSON, and publishes it to another exchange as it came.
// usage: node amqplib.mjs MODULE URL QUEUE EXCHANGE
import { createRequire } from "node:module";

const [module, url, queue, exchange] = process.argv.slice(2);
const { connect } = createRequire(import.meta.url)(module);
const connection = await connect(url);
const channel = await connection.createConfirmChannel();

const message = await new Promise((resolve) => channel.consume(queue, resolve));
const { fields, properties, content } = message;
const told = Object.fromEntries(Object.entries(properties).filter(([, value]) => value !== undefined));
console.log(JSON.stringify({ key: fields.routingKey, properties: told, content: content.toString() }));

channel.publish(exchange, fields.routingKey, content, properties);
await channel.waitForConfirms();
channel.ack(message);
await channel.close();
await connection.close();
