import { createRequire } from "node:module";
import { Kysely, PostgresDialect, SqliteDialect } from "kysely";

const require = createRequire(import.meta.url);

/**
 * @typedef {object} Note
 * @property {string} id
 * @property {string} userId
 * @property {string} text
 * @property {string} origin
 * @property {string} createdAt
 *
 * @typedef {object} User
 * @property {string} id
 * @property {string} name
 * @property {string} email
 * @property {string | null} role
 *
 * @typedef {{ note: Note, user: User }} Tables
 */

/** @type {{ db: Kysely<Tables>, type: "sqlite" | "postgres" } | undefined} */
let opened;

/** The one connection of this process, opened when it is first asked for, so that a build needs no database. */
export function database() {
  opened ??= open(process.env.DATABASE_URL || "sqlite:app.db");
  return opened;
}

/** @param {string} url */
function open(url) {
  if (/^postgres(ql)?:\/\//.test(url)) {
    const { Pool } = require("pg");
    return { db: new Kysely({ dialect: new PostgresDialect({ pool: new Pool({ connectionString: url }) }) }), type: /** @type {const} */ ("postgres") };
  }
  const sqlite = /^sqlite:(?:\/\/)?(.+)$/.exec(url);
  if (!sqlite) throw new Error("DATABASE_URL must begin with sqlite: or postgres://");
  const Database = require("better-sqlite3");
  const file = new Database(sqlite[1]);
  // Readers (the gateway is one) do not wait for the writer, nor it for them.
  file.pragma("journal_mode = WAL");
  file.pragma("busy_timeout = 5000");
  return { db: new Kysely({ dialect: new SqliteDialect({ database: file }) }), type: /** @type {const} */ ("sqlite") };
}
