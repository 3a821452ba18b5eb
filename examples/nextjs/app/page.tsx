import Link from "next/link";

export default function Home() {
  return (
    <>
      <h1>This app has no auth checks.</h1>
      <p className="lead">
        No middleware, no session lookups in its pages. The gateway in front of it lets people in, keeps people out, and tells the app
        who is here.
      </p>
      <section className="card">
        <h2>Try it</h2>
        <ul>
          <li>
            <Link href="/dashboard">Dashboard</Link>: signed in only. Otherwise the gateway asks you to sign in and brings you back.
          </li>
          <li>
            <Link href="/dashboard/activity?from=home" prefetch={true}>
              Activity
            </Link>
            : the same, prefetched in full before you click.
          </li>
          <li>
            <Link href="/admin">Admin</Link>: administrators only.
          </li>
          <li>
            <a href="/legacy">Legacy</a>: pages with <code>getServerSideProps</code>.
          </li>
        </ul>
        <p className="quiet">
          Accounts: <code>demo@example.com</code> with <code>demo-password-1</code>, and <code>admin@example.com</code> with{" "}
          <code>admin-password-1</code>.
        </p>
      </section>
    </>
  );
}
