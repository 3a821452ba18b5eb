export const dynamic = "force-dynamic";

const INTERVAL_MS = 400;
const TICKS_MAX = 1500; // ten minutes; EventSource comes back by itself

export function GET(request: Request) {
  const encoder = new TextEncoder();
  let timer: ReturnType<typeof setInterval> | undefined;
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      let count = 0;
      const tick = () => {
        count += 1;
        controller.enqueue(encoder.encode(`event: tick\ndata: ${JSON.stringify({ count })}\n\n`));
        if (count === TICKS_MAX) stop();
      };
      const stop = () => {
        if (timer === undefined) return;
        clearInterval(timer);
        timer = undefined;
        controller.close();
      };
      timer = setInterval(tick, INTERVAL_MS);
      tick();
      request.signal.addEventListener("abort", stop);
    },
    cancel() {
      clearInterval(timer);
      timer = undefined;
    },
  });
  return new Response(stream, {
    headers: { "content-type": "text/event-stream", "cache-control": "no-cache, no-transform" },
  });
}
