import { betterAuth } from "better-auth";
import { admin } from "better-auth/plugins";
import { database } from "./database.mjs";

/** What Better Auth is told; the migration reads it too. */
export function authOptions() {
  if (!process.env.BETTER_AUTH_SECRET) throw new Error("BETTER_AUTH_SECRET is not set: see .env.example");
  return {
    appName: "Vestibule example",
    // The gateway's address. Next.js builds request URLs from its own port, and Better Auth would take that for the origin.
    baseURL: process.env.BETTER_AUTH_URL || "http://localhost:8080",
    secret: process.env.BETTER_AUTH_SECRET,
    database: database(),
    emailAndPassword: { enabled: true },
    plugins: [admin()],
    telemetry: { enabled: false },
    // Three sign-ins in ten seconds are enough for a person, but not for a test run.
    rateLimit: { enabled: process.env.AUTH_RATE_LIMIT !== "off" },
  };
}

function create() {
  return betterAuth(authOptions());
}

/** @type {ReturnType<typeof create> | undefined} */
let auth;

/** Better Auth, made when it is first asked for: a build then needs neither secret nor database. */
export function getAuth() {
  auth ??= create();
  return auth;
}
