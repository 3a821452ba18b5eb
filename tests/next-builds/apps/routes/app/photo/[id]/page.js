export default function Page() {
  return <p>photo</p>;
}
