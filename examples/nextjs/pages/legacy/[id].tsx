import type { GetServerSideProps } from "next";
import Link from "next/link";

type Props = { id: string; email: string };

export const getServerSideProps: GetServerSideProps<Props> = async ({ req, params }) => ({
  props: { id: String(params?.id), email: decodeURIComponent(String(req.headers["x-auth-user-email"] ?? "")) },
});

export default function LegacyItem({ id, email }: Props) {
  return (
    <main>
      <h1>Legacy {id}</h1>
      <p id="legacy-email">{email}</p>
      <p>
        <Link href="/legacy">All</Link>
      </p>
    </main>
  );
}
