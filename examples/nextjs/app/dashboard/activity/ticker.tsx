"use client";

import { useEffect, useState } from "react";

export function Ticker() {
  const [count, setCount] = useState<number>();
  const [open, setOpen] = useState(true);
  useEffect(() => {
    const source = new EventSource("/api/events");
    source.addEventListener("tick", (event) => setCount(JSON.parse(event.data).count));
    source.onerror = () => setOpen(source.readyState !== EventSource.CLOSED);
    return () => source.close();
  }, []);
  return <p className="mono">{open ? (count === undefined ? "Waiting …" : `Tick ${count}`) : "The stream is closed."}</p>;
}
