export default {
  output: "standalone",
  // The packages are linked from a kept copy beside the other caches.
  outputFileTracingRoot: process.env.NEXT_BUILDS_ROOT,
  images: { localPatterns: [{ pathname: "/assets/**" }] },
  async rewrites() {
    return {
      beforeFiles: [
        { source: "/front/:path*", destination: "/dashboard/:path*" },
        { source: "/beta", destination: "/pricing", has: [{ type: "cookie", key: "beta" }] },
        { source: "/loop-a", destination: "/loop-b" },
        { source: "/loop-b", destination: "/loop-a" },
      ],
      afterFiles: [
        { source: "/pricing", destination: "/dashboard" },
        { source: "/photo/:id", destination: "/dashboard/:id" },
        { source: "/old/:id(\\d+)", destination: "/dashboard/:id" },
      ],
      fallback: [
        { source: "/elsewhere/:path*", destination: "https://other.example.com/:path*" },
        { source: "/last/:path*", destination: "/dashboard" },
      ],
    };
  },
  async redirects() {
    return [{ source: "/gone/:id", destination: "/pricing", permanent: false }];
  },
};
