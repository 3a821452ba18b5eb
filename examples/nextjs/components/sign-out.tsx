"use client";

import { useState } from "react";
import { authClient } from "@/lib/auth-client";

/** Leaves by a full navigation: pages that the router keeps in memory go with the old document. */
export function SignOut() {
  const [busy, setBusy] = useState(false);
  return (
    <button
      className="plain"
      disabled={busy}
      onClick={async () => {
        setBusy(true);
        await authClient.signOut();
        window.location.assign("/");
      }}
    >
      Sign out
    </button>
  );
}
