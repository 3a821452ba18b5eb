export default function Page() {
  return <main>open to all: gallery</main>;
}
