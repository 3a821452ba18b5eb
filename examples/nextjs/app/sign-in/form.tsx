"use client";

import { useState, type FormEvent } from "react";
import { useReady } from "@/components/use-ready";
import { authClient } from "@/lib/auth-client";

export function SignInForm({ returnTo }: { returnTo: string }) {
  const ready = useReady();
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setBusy(true);
    setProblem("");
    const { error } = await authClient.signIn.email({
      email: String(form.get("email")),
      password: String(form.get("password")),
      rememberMe: form.get("remember") === "on",
    });
    if (!error) return window.location.assign(returnTo); // a full navigation: nothing fetched while signed out survives
    setProblem(error.message ?? "That did not work.");
    setBusy(false);
  }

  return (
    <form method="post" onSubmit={submit}>
      <label>
        E-mail
        <input name="email" type="email" autoComplete="username" required />
      </label>
      <label>
        Password
        <input name="password" type="password" autoComplete="current-password" required />
      </label>
      <label className="check">
        <input name="remember" type="checkbox" defaultChecked />
        Stay signed in
      </label>
      {problem ? (
        <p className="wrong" role="alert">
          {problem}
        </p>
      ) : null}
      <p>
        <button disabled={!ready || busy}>Sign in</button>
      </p>
      <p className="quiet">
        No account? <a href={`/sign-up?callbackURL=${encodeURIComponent(returnTo)}`}>Sign up</a>
      </p>
    </form>
  );
}
