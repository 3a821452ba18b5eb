import { safeReturnTo } from "@/lib/return-to";
import { SignUpForm } from "./form";

export default async function SignUp({ searchParams }: { searchParams: Promise<Record<string, string | string[] | undefined>> }) {
  const { callbackURL } = await searchParams;
  return (
    <div className="narrow">
      <h1>Sign up</h1>
      <SignUpForm returnTo={safeReturnTo(callbackURL)} />
    </div>
  );
}
