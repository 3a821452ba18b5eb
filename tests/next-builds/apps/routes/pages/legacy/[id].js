export default function Page() {
  return <p>legacy</p>;
}

export function getServerSideProps() {
  return { props: {} };
}
