export const contentType = "image/png";

export default function Image() {
  return new Response("no picture");
}
