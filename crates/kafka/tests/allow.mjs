// Allows a user an operation, with KafkaJS. The names of kinds and operations are those of Kafka, in capitals or not.
// usage: node allow.mjs MODULE SERVERS USER KIND NAME OPERATION
import { createRequire } from "node:module";

const [module, servers, user, kind, name, operation] = process.argv.slice(2);
const { Kafka, logLevel, AclResourceTypes, AclOperationTypes, AclPermissionTypes, ResourcePatternTypes } =
  createRequire(import.meta.url)(module);
const word = (text) => text.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();

const admin = new Kafka({ brokers: servers.split(","), logLevel: logLevel.NOTHING }).admin();
await admin.connect();
await admin.createAcls({
  acl: [
    {
      resourceType: AclResourceTypes[word(kind)],
      resourceName: name,
      resourcePatternType: ResourcePatternTypes.LITERAL,
      principal: `User:${user}`,
      host: "*",
      operation: AclOperationTypes[word(operation)],
      permissionType: AclPermissionTypes.ALLOW,
    },
  ],
});
await admin.disconnect();
