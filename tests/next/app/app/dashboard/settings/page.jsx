import { MARKER } from '../../../marker';

// Prerendered: its answer says that shared caches may keep it.
export const dynamic = 'force-static';

export default function Page() {
  return <main>{MARKER} settings</main>;
}
