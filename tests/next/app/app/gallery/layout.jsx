export default function Layout({ children, modal }) {
  return (
    <>
      {children}
      {modal}
    </>
  );
}
