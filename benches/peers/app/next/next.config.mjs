import path from 'node:path';

// The packages lie one folder up.
const root = path.dirname(import.meta.dirname);

/** @type {import('next').NextConfig} */
export default {
  outputFileTracingRoot: root,
  turbopack: { root },
  poweredByHeader: false,
  // Nothing is compressed anywhere in this measurement.
  compress: false,
  serverExternalPackages: ['better-sqlite3'],
};
