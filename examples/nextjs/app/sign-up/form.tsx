"use client";

import { useState, type FormEvent } from "react";
import { useReady } from "@/components/use-ready";
import { authClient } from "@/lib/auth-client";

export function SignUpForm({ returnTo }: { returnTo: string }) {
  const ready = useReady();
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setBusy(true);
    setProblem("");
    const { error } = await authClient.signUp.email({
      name: String(form.get("name")),
      email: String(form.get("email")),
      password: String(form.get("password")),
    });
    if (!error) return window.location.assign(returnTo);
    setProblem(error.message ?? "That did not work.");
    setBusy(false);
  }

  return (
    <form method="post" onSubmit={submit}>
      <label>
        Name
        <input name="name" autoComplete="name" required />
      </label>
      <label>
        E-mail
        <input name="email" type="email" autoComplete="username" required />
      </label>
      <label>
        Password
        <input name="password" type="password" autoComplete="new-password" minLength={8} required />
      </label>
      {problem ? (
        <p className="wrong" role="alert">
          {problem}
        </p>
      ) : null}
      <p>
        <button disabled={!ready || busy}>Sign up</button>
      </p>
    </form>
  );
}
