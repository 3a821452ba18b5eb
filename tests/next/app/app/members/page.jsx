export default function Page() {
  return <main>members</main>;
}
