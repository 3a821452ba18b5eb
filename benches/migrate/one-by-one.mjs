// One statement a row, awaited, as the published migration scripts do through the adapter: a user, then a credential row.
import { createReadStream } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { randomUUID } from "node:crypto";
import { join } from "node:path";

const [url, file, sample, oracle] = process.argv.slice(2);
const { default: pg } = await import(createRequire(join(oracle, "package.json")).resolve("pg"));
const client = new pg.Client({ connectionString: url });
await client.connect();
const rows = [];
let head = true;
for await (const line of createInterface({ input: createReadStream(file) })) {
  if (head) {
    head = false;
    continue;
  }
  if (rows.length === Number(sample)) break;
  // The file is ours: one cell in quotes, without quotes in it.
  const [left, name, right] = line.split('"');
  const [id, email, verified, first] = left.split(",");
  const [, created, hash] = right.split(",");
  rows.push({ id, email, verified: verified === "true", name: `${first} ${name}`, created, hash });
}
const began = process.hrtime.bigint();
for (const row of rows) {
  await client.query(
    'INSERT INTO slow."user" (id, name, email, "emailVerified", "createdAt", "updatedAt") VALUES ($1, $2, $3, $4, $5, $6)',
    [row.id, row.name, row.email, row.verified, row.created, row.created],
  );
  await client.query(
    'INSERT INTO slow.account (id, "accountId", "providerId", "userId", password, "createdAt", "updatedAt") VALUES ($1, $2, $3, $4, $5, $6, $7)',
    [randomUUID(), row.id, "credential", row.id, row.hash, row.created, row.created],
  );
}
const seconds = Number(process.hrtime.bigint() - began) / 1e9;
await client.end();
console.log(JSON.stringify({ users: rows.length, seconds }));
