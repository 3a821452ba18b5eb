export default function Page() {
  return <p>blog</p>;
}

export function getStaticPaths() {
  return { paths: [{ params: { slug: ["a", "b"] }, locale: "fr" }], fallback: "blocking" };
}

export function getStaticProps() {
  return { props: {} };
}
