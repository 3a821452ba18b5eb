import type { GetServerSideProps } from "next";
import Link from "next/link";

type Props = { email: string };

// The pages router, as apps grown over the years still have it. The identity comes in the same headers.
export const getServerSideProps: GetServerSideProps<Props> = async ({ req }) => ({
  props: { email: decodeURIComponent(String(req.headers["x-auth-user-email"] ?? "")) },
});

export default function Legacy({ email }: Props) {
  return (
    <main>
      <h1>Legacy</h1>
      <p id="legacy-email">{email}</p>
      <p>
        <Link href="/legacy/7">Number 7</Link> · <a href="/dashboard">Dashboard</a>
      </p>
    </main>
  );
}
