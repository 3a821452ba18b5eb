import { MARKER } from '../../../marker';

export default function handler(request, response) {
  response.status(200).send(`${MARKER} legacy handler ${request.method}`);
}
