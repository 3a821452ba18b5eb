import { MARKER } from '../../marker';

export async function getStaticProps() {
  return { props: { text: `${MARKER} legacy fixed` } };
}

export default function Page({ text }) {
  return <main>{text}</main>;
}
