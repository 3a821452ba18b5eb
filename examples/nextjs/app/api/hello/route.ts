import { identityHeaders } from "@/lib/identity";

export async function GET() {
  return Response.json({ hello: "world", headers: Object.fromEntries(await identityHeaders()) });
}
