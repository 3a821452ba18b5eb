export async function getServerSideProps({ req }) {
  return { props: { user: req.headers['x-auth-user-id'] ?? 'nobody' } };
}

export default function Page({ user }) {
  return <main>open to all: pages router, user={user}</main>;
}
