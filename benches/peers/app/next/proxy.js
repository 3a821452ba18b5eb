import { NextResponse } from 'next/server';
import { auth } from './auth.mjs';

export const config = { matcher: ['/answer'] };

export async function proxy(request) {
  const session = await auth().api.getSession({ headers: request.headers });
  if (!session) return NextResponse.redirect(new URL('/sign-in', request.url));
  return NextResponse.next();
}
