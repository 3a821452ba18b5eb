"use client";

import { useState, useTransition } from "react";
import { addNoteFromClient } from "./actions";

export function QuickNote() {
  const [text, setText] = useState("");
  const [pending, start] = useTransition();
  return (
    <div className="row">
      <input aria-label="Quick note" placeholder="By a client-side call" value={text} onChange={(event) => setText(event.target.value)} />
      <button
        type="button"
        disabled={pending || !text.trim()}
        onClick={() =>
          start(async () => {
            await addNoteFromClient(text);
            setText("");
          })
        }
      >
        Call
      </button>
    </div>
  );
}
