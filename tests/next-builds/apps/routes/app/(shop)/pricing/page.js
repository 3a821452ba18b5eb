export default function Page() {
  return <p>pricing</p>;
}
