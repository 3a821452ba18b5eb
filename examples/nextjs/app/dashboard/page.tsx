import { decode, identity, identityHeaders } from "@/lib/identity";
import { notesOf } from "@/lib/notes";
import { addNote } from "./actions";
import { QuickNote } from "./quick-note";

export default async function Dashboard() {
  const who = await identity();
  const received = await identityHeaders();
  const notes = who ? await notesOf(who.id) : [];
  return (
    <>
      <h1>Hello, {who?.name || "stranger"}.</h1>
      <p className="lead">This page did not look you up. The gateway did, and said so in these headers.</p>
      <section className="card">
        <h2>What the app received</h2>
        {received.length === 0 ? <p className="wrong">Nothing: this request did not come through the gateway.</p> : null}
        <table id="identity">
          <tbody>
            {received.map(([name, value]) => (
              <tr key={name}>
                <th scope="row" className="mono">
                  {name}
                </th>
                <td className="mono" data-header={name}>
                  {name === "x-auth-assertion" ? `${value.slice(0, 40)}…` : decode(value)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      <section className="card">
        <h2>Notes</h2>
        <form action={addNote} className="row">
          <input name="text" aria-label="Note" placeholder="By a form" required />
          <button>Add</button>
        </form>
        <p />
        <QuickNote />
        <ul id="notes">
          {notes.map((note) => (
            <li key={note.id}>
              {note.text} <span className="quiet">({note.origin})</span>
            </li>
          ))}
        </ul>
      </section>
    </>
  );
}
