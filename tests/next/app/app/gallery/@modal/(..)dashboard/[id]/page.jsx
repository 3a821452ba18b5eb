import { headers } from 'next/headers';
import { MARKER, seen } from '../../../../../marker';

export default async function Page({ params }) {
  const { id } = (await params) ?? {};
  return (
    <main>
      {MARKER} dashboard entry in a modal {JSON.stringify(id ?? null)} {seen(await headers())}
    </main>
  );
}
