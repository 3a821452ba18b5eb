export default {
  distDir: "build-output",
  basePath: "/base",
  trailingSlash: true,
  outputFileTracingRoot: process.env.NEXT_BUILDS_ROOT,
  i18n: {
    locales: ["en", "fr", "nl-NL"],
    defaultLocale: "en",
    domains: [{ domain: "example.fr", defaultLocale: "fr" }],
  },
  async rewrites() {
    return [
      { source: "/old-about", destination: "/about" },
      { source: "/literal", destination: "https://other.example.com/about", basePath: false },
      { source: "/nl-NL/raw", destination: "/fr/about", locale: false },
      { source: "/open/:path*", destination: "/vault/:path*" },
    ];
  },
};
