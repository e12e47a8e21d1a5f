// Signs and verifies as the published package does. In: {sign: [{secret, id, at, body}], verify: [{secret, headers, body}]}.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { Webhook } = createRequire(join(process.argv[2], "x"))("standardwebhooks");
const question = JSON.parse(readFileSync(0, "utf8"));

const signatures = question.sign.map(({ secret, id, at, body }) =>
  new Webhook(secret).sign(id, new Date(at * 1000), body),
);
const verdicts = question.verify.map(({ secret, headers, body }) => {
  try {
    new Webhook(secret).verify(body, headers, { jsonParse: false });
    return true;
  } catch {
    return false;
  }
});
process.stdout.write(JSON.stringify({ signatures, verdicts }));
