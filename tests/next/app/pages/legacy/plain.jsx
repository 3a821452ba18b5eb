import { MARKER } from '../../marker';

// Neither props nor a server: optimized to a file.
export default function Page() {
  return <main>{MARKER} legacy plain</main>;
}
