import { identity } from "@/lib/identity";

export default async function Settings() {
  const who = await identity();
  return (
    <>
      <h1>Settings</h1>
      <section className="card">
        <table>
          <tbody>
            <tr>
              <th scope="row">Name</th>
              <td>{who?.name}</td>
            </tr>
            <tr>
              <th scope="row">E-mail</th>
              <td id="settings-email">{who?.email}</td>
            </tr>
            <tr>
              <th scope="row">Role</th>
              <td>{who?.role}</td>
            </tr>
          </tbody>
        </table>
      </section>
    </>
  );
}
