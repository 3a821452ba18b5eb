import { MARKER } from '../../marker';

// What stands around every page of the members, also around those that take the place of others.
export default function Layout({ children, modal }) {
  return (
    <section>
      {MARKER} members
      {children}
      {modal}
    </section>
  );
}
