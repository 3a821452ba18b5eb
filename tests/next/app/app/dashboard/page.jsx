import { headers } from 'next/headers';
import { MARKER, seen } from '../../marker';

export default async function Page({ params }) {
  const { none } = (await params) ?? {};
  return (
    <main>
      {MARKER} dashboard {JSON.stringify(none ?? null)} {seen(await headers())}
    </main>
  );
}
