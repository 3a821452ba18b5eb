export default function Page() {
  return <p>vault</p>;
}

export function getServerSideProps() {
  return { props: {} };
}
