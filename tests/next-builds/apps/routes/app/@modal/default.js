export default function Page() {
  return <p>none</p>;
}
