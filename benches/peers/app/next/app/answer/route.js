// Made once, at build time: after the check, Next.js has nothing left to do but hand it out.
export const dynamic = 'force-static';

export function GET() {
  return new Response('x'.repeat(1024), { headers: { 'content-type': 'text/plain' } });
}
