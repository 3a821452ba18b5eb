export default function Page() {
  return <p>still</p>;
}
