"use client";

import { useSyncExternalStore } from "react";

/** False until the page can react: a form that is sent earlier would go to the page itself. */
export function useReady() {
  return useSyncExternalStore(
    () => () => {},
    () => true,
    () => false,
  );
}
