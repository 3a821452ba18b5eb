export default function Page() {
  return <p>intercepted</p>;
}
