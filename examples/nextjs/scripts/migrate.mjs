// Brings the database to what Better Auth and this app want. Safe to run again.
import "./env.mjs";
import { getMigrations } from "better-auth/db/migration";
import { authOptions } from "../lib/auth.mjs";
import { database } from "../lib/database.mjs";

const { toBeCreated, toBeAdded, runMigrations } = await getMigrations(authOptions());
await runMigrations();

const { db } = database();
await db.schema
  .createTable("note")
  .ifNotExists()
  .addColumn("id", "text", (column) => column.primaryKey())
  .addColumn("userId", "text", (column) => column.notNull())
  .addColumn("text", "text", (column) => column.notNull())
  .addColumn("origin", "text", (column) => column.notNull())
  .addColumn("createdAt", "text", (column) => column.notNull())
  .execute();
await db.schema.createIndex("note_userId").ifNotExists().on("note").column("userId").execute();
await db.destroy();

const changed = [...toBeCreated, ...toBeAdded].map(({ table }) => table);
console.log(changed.length > 0 ? `Migrated: ${changed.join(", ")}.` : "The database is up to date.");
