import { headers } from 'next/headers';
import { MARKER, seen } from '../../../../../marker';

export default async function Page() {
  return (
    <main>
      {MARKER} photo among members {seen(await headers())}
    </main>
  );
}
