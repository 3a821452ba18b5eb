import { headers } from 'next/headers';
import { MARKER, seen } from '../../../marker';

export default async function Page({ params }) {
  const { path } = (await params) ?? {};
  return (
    <main>
      {MARKER} docs {JSON.stringify(path ?? null)} {seen(await headers())}
    </main>
  );
}
