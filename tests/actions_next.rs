//! Server Actions at real Next.js.
