import { NextResponse } from "next/server";

export function proxy() {
  return NextResponse.next();
}

export const config = {
  matcher: [
    "/dashboard/:path*",
    { source: "/pricing", missing: [{ type: "header", key: "next-router-prefetch" }] },
  ],
};
