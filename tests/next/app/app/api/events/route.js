import { MARKER } from '../../../marker';

// Three events, then the end.
export async function GET() {
  const encoder = new TextEncoder();
  const stream = new ReadableStream({
    start(controller) {
      for (const event of [1, 2, 3]) controller.enqueue(encoder.encode(`data: ${MARKER} event ${event}\n\n`));
      controller.close();
    },
  });
  return new Response(stream, { headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-transform' } });
}
