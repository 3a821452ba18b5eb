import path from 'node:path';

const root = path.dirname(import.meta.dirname);
const based = process.env.VARIANT === 'based';

/** @type {import('next').NextConfig} */
export default {
  outputFileTracingRoot: root,
  turbopack: { root },
  poweredByHeader: false,
  images: { localPatterns: [{ pathname: '/**' }] },
  ...(based && {
    basePath: '/base',
    trailingSlash: true,
    i18n: { locales: ['en', 'fr', 'nl-NL'], defaultLocale: 'en', localeDetection: false },
  }),
  async rewrites() {
    return {
      beforeFiles: [{ source: '/before/:path*', destination: '/dashboard/:path*' }],
      afterFiles: [
        { source: '/shortcut', destination: '/dashboard/7' },
        { source: '/alias/:path*', destination: '/dashboard/:path*' },
        { source: '/files/:path*', destination: '/private/:path*' },
      ],
      fallback: [{ source: '/last/:path*', destination: '/legacy/:path*' }],
    };
  },
  async redirects() {
    return [{ source: '/old-dashboard/:path*', destination: '/dashboard/:path*', permanent: false }];
  },
};
