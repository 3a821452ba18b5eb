import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

/** @type {import("next").NextConfig} */
export default {
  poweredByHeader: false,
  // This folder is a project of its own, whatever lock files lie above it.
  turbopack: { root: dirname(fileURLToPath(import.meta.url)) },
};
