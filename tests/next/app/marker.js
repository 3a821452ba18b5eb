// What nobody without a session may see a byte of.
export const MARKER = ['PROTECTED', 'BYTES'].join('-');

// What the caller is to the app: the name it was told, and where it learnt that.
export function seen(headers) {
  return `user=${headers.get('x-auth-user-id') ?? 'nobody'};subrequest=${headers.get('x-middleware-subrequest') ?? 'none'}`;
}
