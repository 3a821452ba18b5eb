export default function Page() {
  return <p>underscored</p>;
}
