// Makes the tables that Better Auth wants, as its own migration does.
import { getMigrations } from "better-auth/db/migration";
import { options } from "./auth.mjs";

const settings = options();
await (await getMigrations(settings)).runMigrations();
await settings.database.db.destroy();
