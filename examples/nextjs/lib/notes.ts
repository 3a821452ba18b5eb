import { randomUUID } from "node:crypto";
import { database } from "./database.mjs";
import { identity } from "./identity";

export type NoteOrigin = "form" | "client";

/**
 * Next.js runs a Server Action whatever path it was posted to, a public one too. There the gateway stamps nobody, so an
 * action that needs to know who is calling asks here, and stops.
 */
export async function recordNote(text: string, origin: NoteOrigin) {
  const who = await identity();
  if (!who) throw new Error("No identity: this action was not called through a protected route.");
  const trimmed = text.trim().slice(0, 500);
  if (!trimmed) return;
  await database()
    .db.insertInto("note")
    .values({ id: randomUUID(), userId: who.id, text: trimmed, origin, createdAt: new Date().toISOString() })
    .execute();
}

export async function notesOf(userId: string) {
  return database().db.selectFrom("note").selectAll().where("userId", "=", userId).orderBy("createdAt", "desc").limit(20).execute();
}
