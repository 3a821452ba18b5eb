export function generateStaticParams() {
  return [{ slug: "hello" }];
}

export default function Page() {
  return <p>blog</p>;
}
