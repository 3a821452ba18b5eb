import { headers } from 'next/headers';
import { seen } from '../../../marker';

export default async function Page() {
  return <main>open to all: photo {seen(await headers())}</main>;
}
