export default function Forbidden() {
  return (
    <>
      <h1>Not for this account.</h1>
      <p className="lead">You are signed in, but this page needs a role that you do not have.</p>
      <p>
        <a href="/dashboard">Back to the dashboard</a>
      </p>
    </>
  );
}
