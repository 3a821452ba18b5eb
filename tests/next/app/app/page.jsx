export default function Page() {
  return <main>open to all: home</main>;
}
