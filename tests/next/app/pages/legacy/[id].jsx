import { MARKER } from '../../marker';

export async function getServerSideProps({ params, req }) {
  return { props: { text: `${MARKER} legacy entry ${JSON.stringify(params ?? null)} user=${req.headers['x-auth-user-id'] ?? 'nobody'}` } };
}

export default function Page({ text }) {
  return <main>{text}</main>;
}
