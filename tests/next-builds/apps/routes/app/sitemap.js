export default function sitemap() {
  return [{ url: "https://app.example.com/" }];
}
