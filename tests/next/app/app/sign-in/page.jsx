export default function Page() {
  return <main>open to all: sign in</main>;
}
