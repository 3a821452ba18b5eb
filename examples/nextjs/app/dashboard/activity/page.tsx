import { identity } from "@/lib/identity";
import { Ticker } from "./ticker";

export default async function Activity() {
  const who = await identity();
  return (
    <>
      <h1>Activity</h1>
      <p className="lead" id="activity-email">
        {who?.email}
      </p>
      <section className="card">
        <h2>Live, by server-sent events</h2>
        <Ticker />
      </section>
    </>
  );
}
