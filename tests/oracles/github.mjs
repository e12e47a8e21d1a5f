// Signs and verifies as GitHub's SDK does. In: {sign: [{secret, body}], verify: [{secrets, body, signature}]}.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const file = join(process.argv[2], "@octokit/webhooks-methods/dist-node/index.js");
const { sign, verifyWithFallback } = await import(pathToFileURL(file));
const question = JSON.parse(readFileSync(0, "utf8"));

const signatures = question.sign.map(({ secret, body }) => sign(secret, body));
// The SDK throws where something is missing; nothing is verified then either.
const verdicts = question.verify.map(({ secrets: [first, ...others], body, signature }) =>
  verifyWithFallback(first, body, signature, others).catch(() => false),
);
const answer = { signatures: await Promise.all(signatures), verdicts: await Promise.all(verdicts) };
process.stdout.write(JSON.stringify(answer));
