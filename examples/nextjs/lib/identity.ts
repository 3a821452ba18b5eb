import { headers } from "next/headers";

export type Identity = { id: string; email: string; name: string; role: string; sessionId: string };

/** What the gateway says about the caller. It removes these headers from everything that comes in, so nobody else can set them. */
export async function identity(): Promise<Identity | null> {
  const incoming = await headers();
  const id = incoming.get("x-auth-user-id");
  if (!id) return null;
  const read = (name: string) => decode(incoming.get(name) ?? "");
  return {
    id: decode(id),
    email: read("x-auth-user-email"),
    name: read("x-auth-user-name"),
    role: read("x-auth-role"),
    sessionId: read("x-auth-session-id"),
  };
}

/** Every header that looks like one of the gateway's, however it is spelt, sorted, as it came. */
export async function identityHeaders(): Promise<[string, string][]> {
  return [...(await headers())].filter(([name]) => /^x[-_.]auth[-_.]/i.test(name)).sort(([a], [b]) => a.localeCompare(b));
}

/** Values are percent-encoded where they hold spaces or letters outside ASCII. */
export function decode(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}
