// The scripts see the same .env files as Next.js does.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import nextEnv from "@next/env";

process.chdir(join(dirname(fileURLToPath(import.meta.url)), ".."));
nextEnv.loadEnvConfig(process.cwd(), process.env.NODE_ENV !== "production", { info() {}, error: console.error });
