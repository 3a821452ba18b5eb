import { seen } from '../../../marker';

export async function GET(request) {
  return new Response(`open to all: handler ${seen(request.headers)}`);
}
