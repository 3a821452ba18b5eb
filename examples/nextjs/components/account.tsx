"use client";

import Link from "next/link";
import { authClient } from "@/lib/auth-client";
import { SignOut } from "./sign-out";

/** The head of every page. It asks Better Auth who is here, so that public pages can stay static. */
export function Account() {
  const { data, isPending } = authClient.useSession();
  return (
    <header>
      <Link className="mark" href="/">
        Vestibule example
      </Link>
      {isPending ? null : data ? (
        <>
          <Link href="/dashboard">Dashboard</Link>
          <SignOut />
        </>
      ) : (
        // Whoever is not signed in is met by the gateway, not by these links: they lead to pages that it bounces.
        <>
          <a href="/sign-in">Sign in</a>
          <a href="/sign-up">Sign up</a>
        </>
      )}
    </header>
  );
}
