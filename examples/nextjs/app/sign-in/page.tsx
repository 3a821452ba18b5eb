import { safeReturnTo } from "@/lib/return-to";
import { SignInForm } from "./form";

export default async function SignIn({ searchParams }: { searchParams: Promise<Record<string, string | string[] | undefined>> }) {
  const { callbackURL, reauth } = await searchParams;
  return (
    <div className="narrow">
      <h1>Sign in</h1>
      {reauth ? <p className="quiet">Please confirm that it is you.</p> : null}
      <SignInForm returnTo={safeReturnTo(callbackURL)} />
    </div>
  );
}
