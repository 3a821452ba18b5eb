import { MARKER, seen } from '../../../../marker';

async function handler(request) {
  return new Response(`${MARKER} handler of one ${request.method} ${seen(request.headers)}`);
}

export { handler as GET, handler as POST, handler as PUT, handler as PATCH, handler as DELETE };
export const dynamic = 'force-dynamic';
