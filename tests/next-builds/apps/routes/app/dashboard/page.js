async function rename(form) {
  "use server";
  console.log(form.get("name"));
}

export default function Page() {
  return (
    <form action={rename}>
      <input name="name" />
    </form>
  );
}
