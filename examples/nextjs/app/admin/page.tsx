import { database } from "@/lib/database.mjs";

// Reads the database at every request; without this line it would be rendered once, at build time.
export const dynamic = "force-dynamic";

export default async function Admin() {
  const users = await database().db.selectFrom("user").select(["id", "name", "email", "role"]).orderBy("email").limit(100).execute();
  return (
    <>
      <h1>Admin</h1>
      <p className="lead">Only administrators see this, because the gateway says so.</p>
      <section className="card">
        <table id="users">
          <tbody>
            {users.map((user) => (
              <tr key={user.id}>
                <td>{user.name}</td>
                <td>{user.email}</td>
                <td className="mono">{user.role ?? "user"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </>
  );
}
