"use server";

import { revalidatePath } from "next/cache";
import { recordNote } from "@/lib/notes";

/** Sent by the form, with or without script. */
export async function addNote(form: FormData) {
  await recordNote(String(form.get("text") ?? ""), "form");
  revalidatePath("/dashboard");
}

/** Called like a function by a client component. */
export async function addNoteFromClient(text: string) {
  await recordNote(text, "client");
  revalidatePath("/dashboard");
}
