// Puts two accounts into the database: a user and an administrator. Safe to run again.
import "./env.mjs";
import { getAuth } from "../lib/auth.mjs";
import { database } from "../lib/database.mjs";

// Known to everybody who reads this file: for demonstrations only.
const ACCOUNTS = [
  { name: "Demo User", email: "demo@example.com", password: "demo-password-1", role: "user" },
  { name: "Ada Admin", email: "admin@example.com", password: "admin-password-1", role: "admin" },
];

const { internalAdapter, password: passwords, checkSchema } = await getAuth().$context;
await checkSchema?.();
for (const { name, email, password, role } of ACCOUNTS) {
  if (await internalAdapter.findUserByEmail(email)) {
    console.log(`${email} is there already.`);
    continue;
  }
  const user = await internalAdapter.createUser({ name, email, role, emailVerified: true });
  await internalAdapter.linkAccount({
    userId: user.id,
    accountId: user.id,
    providerId: "credential",
    password: await passwords.hash(password),
  });
  console.log(`${email} is new, role ${role}.`);
}
await database().db.destroy();
