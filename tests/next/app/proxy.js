import { NextResponse } from 'next/server';

// Guards nothing. It is there because Next.js reads addresses differently where it has one.
export function proxy() {
  return NextResponse.next();
}
