import { NextResponse } from 'next/server';

// Guards nothing. It is there because Next.js reads addresses differently where it has one, and says that it ran, for tests that ask.
export function proxy() {
  return NextResponse.next({ headers: { 'x-proxy': 'ran' } });
}
